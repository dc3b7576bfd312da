CREATE OR REPLACE FUNCTION @extschema@.target_function(target text) RETURNS regprocedure LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF target !~ '^sql:' THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT p.oid FROM pg_proc p
             WHERE p.oid = to_regprocedure(substr(target, 5) || '(jsonb)') AND p.prokind = 'f'
               AND NOT pg_is_other_temp_schema(p.pronamespace) AND p.pronamespace <> pg_my_temp_schema());
EXCEPTION WHEN OTHERS THEN
    RETURN NULL; -- no identifier at all
END $$;
COMMENT ON FUNCTION @extschema@.target_function(text) IS
    'Internal: the function behind a target sql:schema.function, which takes one jsonb; NULL when there is none, or a temporary one, which another session would see otherwise.';
