CREATE OR REPLACE FUNCTION @extschema@.release(token uuid) RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    l @extschema@.leases;
BEGIN
    SELECT * INTO l FROM @extschema@.leases x WHERE x.token = release.token AND x.held FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM @extschema@.fenced(token);
    END IF;
    UPDATE @extschema@.retries r
       SET token = NULL, attempt = r.attempt - 1, next_attempt_at = clock_timestamp() WHERE r.token = l.token;
    IF l.events = 0 THEN
        DELETE FROM @extschema@.leases x WHERE x.token = l.token;
    ELSE
        UPDATE @extschema@.leases x
           SET token = gen_random_uuid(), held = false, retries = 0, attempt = l.attempt - 1, until = clock_timestamp()
         WHERE x.token = l.token;
    END IF;
    RETURN l.events + l.retries;
END $$;
COMMENT ON FUNCTION @extschema@.release(uuid) IS
    'Hand the unsettled rest of a lease back: claimable at once, and no attempt is counted. Returns how many events. TL004 when the lease is lost.';
