CREATE OR REPLACE FUNCTION @extschema@.listener_join() RETURNS void LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT pg_advisory_lock_shared(@extschema@.lock_class(), 2) $$;
COMMENT ON FUNCTION @extschema@.listener_join() IS
    'Tell the sentinel that this session sleeps on LISTEN and wants wake_listeners(); LISTEN first.';
