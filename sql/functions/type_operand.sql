CREATE OR REPLACE FUNCTION @extschema@.type_operand(pattern text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF pattern IN ('*', '**') THEN
        RETURN NULL;
    ELSIF pattern NOT LIKE '%*%' THEN
        RETURN pattern;
    ELSIF pattern ~ '^[^*]+[.][*][*]$' THEN
        RETURN left(pattern, -2);
    END IF;
    RETURN @extschema@.pattern_regex(pattern);
END $$;
COMMENT ON FUNCTION @extschema@.type_operand(text) IS 'Internal: what type_condition() compares with; NULL when every type matches.';
