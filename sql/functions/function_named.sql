CREATE OR REPLACE FUNCTION @extschema@.function_named(name text, arguments text) RETURNS regprocedure LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT p.oid FROM pg_proc p
             WHERE p.oid = to_regprocedure(name || '(' || arguments || ')') AND p.prokind = 'f' AND p.prorettype = 'jsonb'::regtype AND NOT p.proretset
               AND NOT pg_is_other_temp_schema(p.pronamespace) AND p.pronamespace <> pg_my_temp_schema());
EXCEPTION WHEN OTHERS THEN
    RETURN NULL; -- no identifier at all
END $$;
COMMENT ON FUNCTION @extschema@.function_named(text, text) IS
    'Internal: the function schema.name with these arguments that returns one jsonb; NULL when there is none, or a temporary one, which another session would see otherwise.';
