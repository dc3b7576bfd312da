-- Anchored; every character but * is taken literally.
CREATE OR REPLACE FUNCTION @extschema@.pattern_regex(pattern text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    RETURN CASE WHEN pattern IN ('*', '**') THEN NULL
        ELSE '^' || replace(
                regexp_replace(
                    regexp_replace(pattern, '([].\\^$+?(){}|[-])', '\\\1', 'g'),
                    '\*\*$', '.+'),
                '*', '[^.]+') || '$' END;
COMMENT ON FUNCTION @extschema@.pattern_regex(text) IS
    'Internal: a valid pattern as a regular expression; NULL when it matches everything.';
