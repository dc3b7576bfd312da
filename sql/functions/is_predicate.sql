CREATE OR REPLACE FUNCTION @extschema@.is_predicate(path jsonpath) RETURNS boolean LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- nobody supplies variables; in the normal form of a path they are $"name"
    IF regexp_replace(path::text, E'"([^"\\\\]|\\\\.)*"', '""', 'g') ~ '[$]""' THEN
        RETURN false;
    END IF;
    -- a predicate gives one boolean (or unknown) for any document, other paths give items
    PERFORM jsonb_path_match_tz('{}', path);
    RETURN true;
EXCEPTION WHEN data_exception THEN
    RETURN false;
END $$;
COMMENT ON FUNCTION @extschema@.is_predicate(jsonpath) IS
    'Internal: is a jsonpath a predicate without variables? NULL counts as one.';
