-- Anchored; every character but * is taken literally. PL/pgSQL keeps its plan from call to call, SQL does not.
CREATE OR REPLACE FUNCTION @extschema@.pattern_regex(pattern text) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pattern IN ('*', '**') THEN
        RETURN NULL;
    END IF;
    RETURN '^' || replace(
            regexp_replace(
                regexp_replace(pattern, E'([].\\\\^$+?(){}|[-])', E'\\\\\\1', 'g'),
                '[*][*]$', '.+'),
            '*', '[^.]+') || '$';
END $$;
COMMENT ON FUNCTION @extschema@.pattern_regex(text) IS
    'Internal: a valid pattern as a regular expression; NULL when it matches everything.';
