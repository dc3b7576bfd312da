-- The end of take_lease(): under the lock on the cursor, which it moves.
CREATE OR REPLACE FUNCTION @extschema@.write_lease(new @extschema@.leases, duration interval) RETURNS @extschema@.leases
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF new.events + new.retries > 0 THEN
        new.until := clock_timestamp() + duration;
        INSERT INTO @extschema@.leases SELECT (new).*;
        UPDATE @extschema@.cursors c
           SET cursor = greatest(c.cursor, new.upto), epoch = new.epoch, last_triggered_at = clock_timestamp()
         WHERE c.subscription_id = new.subscription_id AND c.slot = new.slot;
        RETURN new;
    END IF;
    UPDATE @extschema@.cursors c SET cursor = new.upto
     WHERE c.subscription_id = new.subscription_id AND c.slot = new.slot AND c.cursor < new.upto;
    IF FOUND THEN
        new.token := NULL; -- no lease; upto below the horizon says that there is more to look at
        RETURN new;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION @extschema@.write_lease(@extschema@.leases, interval) IS
    'Internal: write a lease down and move the cursor; without events only the cursor. Its token is NULL when there is no lease.';
