CREATE OR REPLACE FUNCTION @extschema@.type_problem(type text) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE
        WHEN type IS NULL OR type = '' THEN 'is empty'
        WHEN octet_length(type) > 255 THEN 'is longer than 255 bytes'
        WHEN strpos('.' || type || '.', '..') > 0 THEN 'has an empty segment'
        WHEN strpos(type, '*') > 0 THEN 'contains *'
    END;
END $$;
COMMENT ON FUNCTION @extschema@.type_problem(text) IS
    'What is wrong with an event type, as words to follow "type"; NULL when it is fine. Same rules as tl_type_check.';
