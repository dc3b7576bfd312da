CREATE OR REPLACE FUNCTION @extschema@.bell_arm() RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT pg_try_advisory_lock(@extschema@.lock_class(), 0) THEN
        RETURN false;
    END IF;
    -- One who found the bell armed before holds no share of it, and its ring is gone if it rolls back:
    -- as long as it holds the horizon below events that are committed, somebody has to stay awake.
    IF EXISTS (SELECT FROM pg_locks l JOIN @extschema@.topics t
                 ON l.classid = to_regclass('@extschema@.position_' || t.name)::oid
                WHERE l.locktype = 'advisory' AND l.mode = 'ShareLock' AND l.objsubid = 2
                  AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
    THEN
        PERFORM pg_advisory_unlock(@extschema@.lock_class(), 0);
        RETURN false;
    END IF;
    RETURN true;
END $$;
COMMENT ON FUNCTION @extschema@.bell_arm() IS
    'Sentinel: arm the doorbell, for the session. true: publishers from now on notify; read once more, then sleep on LISTEN. false: a publisher is in flight, stay awake.';
