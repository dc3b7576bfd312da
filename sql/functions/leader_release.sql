CREATE OR REPLACE FUNCTION @extschema@.leader_release() RETURNS boolean LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT pg_advisory_unlock(@extschema@.lock_class(), 3) $$;
COMMENT ON FUNCTION @extschema@.leader_release() IS 'Stop being the maintenance leader.';
