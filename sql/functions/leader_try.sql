CREATE OR REPLACE FUNCTION @extschema@.leader_try() RETURNS boolean LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT pg_try_advisory_lock(@extschema@.lock_class(), 3) $$;
COMMENT ON FUNCTION @extschema@.leader_try() IS
    'Election: true when this session is now the one that runs maintain() at intervals. Never waits.';
