CREATE OR REPLACE FUNCTION @extschema@.target_function(target text) RETURNS regprocedure LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF target !~ '^sql:' THEN
        RETURN NULL;
    END IF;
    RETURN to_regprocedure(substr(target, 5) || '(jsonb)');
EXCEPTION WHEN OTHERS THEN
    RETURN NULL; -- no identifier at all
END $$;
COMMENT ON FUNCTION @extschema@.target_function(text) IS
    'Internal: the function behind a target sql:schema.function, which takes one jsonb; NULL when there is none.';
