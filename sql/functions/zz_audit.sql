-- Here and not in a migration, because guard() is a function; a no-op ever after.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = '@extschema@.audit'::regclass AND t.tgname = 'guard') THEN
        CREATE TRIGGER guard BEFORE UPDATE OR DELETE OR TRUNCATE ON @extschema@.audit
            FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.guard();
    END IF;
END $$;
