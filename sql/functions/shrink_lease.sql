CREATE OR REPLACE FUNCTION @extschema@.shrink_lease(new @extschema@.leases) RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF new.events + new.retries > 0 THEN
        UPDATE @extschema@.leases l SET events = new.events, retries = new.retries, has_holes = new.has_holes WHERE l.token = new.token;
    ELSE
        DELETE FROM @extschema@.leases l WHERE l.token = new.token;
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.shrink_lease(@extschema@.leases) IS
    'Internal: fewer events were handed out than the lease was written for: the others were parked or buried.';
