-- The cheapest exact condition: PostgreSQL keeps only 32 compiled regular expressions.
CREATE OR REPLACE FUNCTION @extschema@.type_condition(pattern text, operand text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF pattern IN ('*', '**') THEN
        RETURN '';
    ELSIF pattern NOT LIKE '%*%' THEN
        RETURN ' AND e.type = ' || operand;
    ELSIF pattern ~ '^[^*]+[.][*][*]$' THEN
        -- a valid type does not end in a dot, so one more byte is one more segment
        RETURN format(' AND starts_with(e.type, %s)', operand);
    END IF;
    RETURN ' AND e.type ~ ' || operand;
END $$;
COMMENT ON FUNCTION @extschema@.type_condition(text, text) IS
    'Internal: condition on the type of event e that says that it matches a valid pattern, with the operand of type_operand(); empty when all do.';
