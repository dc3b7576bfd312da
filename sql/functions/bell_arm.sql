CREATE OR REPLACE FUNCTION @extschema@.bell_arm() RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$ BEGIN RETURN pg_try_advisory_lock(@extschema@.lock_class(), 0); END $$;
COMMENT ON FUNCTION @extschema@.bell_arm() IS
    'Sentinel: arm the doorbell, for the session. true: publishers from now on notify; read once more, then sleep on LISTEN. false: a publisher is in flight, stay awake.';
