CREATE OR REPLACE FUNCTION @extschema@.matches(type text, pattern text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(@extschema@.pattern_problem(pattern) IS NULL
        AND @extschema@.type_problem(type) IS NULL
        AND type ~ coalesce(@extschema@.pattern_regex(pattern), ''), false);
$$;
COMMENT ON FUNCTION @extschema@.matches(text, text) IS
    'Does an event type match a pattern? * is one segment, ** at the end one or more, * or ** alone everything. A malformed type or pattern matches nothing. Same answers as tl_pattern_matches.';
