CREATE OR REPLACE FUNCTION @extschema@.pattern_problem(pattern text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    RETURN CASE
        WHEN pattern IS NULL OR pattern = '' THEN 'is empty'
        WHEN octet_length(pattern) > 255 THEN 'is longer than 255 bytes'
        WHEN strpos('.' || pattern || '.', '..') > 0 THEN 'has an empty segment'
        WHEN pattern !~ '^(([^.*]+|[*])[.])*([^.*]+|[*]|[*][*])$'
        THEN 'has * beside other characters of a segment, or ** before its end'
    END;
COMMENT ON FUNCTION @extschema@.pattern_problem(text) IS
    'What is wrong with a pattern, as words to follow "pattern"; NULL when it is fine. Same rules as tl_pattern_check.';
