CREATE OR REPLACE FUNCTION @extschema@.listener_leave() RETURNS boolean LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT pg_advisory_unlock_shared(@extschema@.lock_class(), 2) $$;
COMMENT ON FUNCTION @extschema@.listener_leave() IS 'Undo listener_join().';
