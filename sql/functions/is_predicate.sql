CREATE OR REPLACE FUNCTION @extschema@.is_predicate(path jsonpath) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- a predicate gives one boolean (or unknown) for any document, other paths give items
    PERFORM jsonb_path_match('{}', path);
    RETURN true;
EXCEPTION WHEN data_exception OR SQLSTATE '22038' THEN
    RETURN false;
END $$;
COMMENT ON FUNCTION @extschema@.is_predicate(jsonpath) IS
    'Internal: is a jsonpath a predicate, as the operator @@ needs? NULL counts as one.';
