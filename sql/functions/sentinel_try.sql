CREATE OR REPLACE FUNCTION @extschema@.sentinel_try() RETURNS boolean LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT pg_try_advisory_lock(@extschema@.lock_class(), 1) $$;
COMMENT ON FUNCTION @extschema@.sentinel_try() IS
    'Election: true when this session is now the sentinel, who watches the log for all waiting sessions. Never waits.';
