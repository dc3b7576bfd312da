CREATE OR REPLACE FUNCTION @extschema@.extend(token uuid, lease interval DEFAULT interval '30 s') RETURNS timestamptz
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    new_until timestamptz;
BEGIN
    PERFORM @extschema@.check_lease(lease);
    UPDATE @extschema@.leases l SET until = clock_timestamp() + lease WHERE l.token = extend.token AND l.held
    RETURNING l.until INTO new_until;
    IF NOT FOUND THEN
        PERFORM @extschema@.fenced(token);
    END IF;
    RETURN new_until;
END $$;
COMMENT ON FUNCTION @extschema@.extend(uuid, interval) IS
    'Heartbeat: the lease now ends this long from now (1 ms to 1 day). Returns when. TL004 when it is lost.';
