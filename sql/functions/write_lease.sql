-- The end of take_lease(): under the lock on the cursor, which it moves.
CREATE OR REPLACE FUNCTION @extschema@.write_lease(new @extschema@.leases, duration interval) RETURNS @extschema@.leases
    LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    is_further boolean := false;
BEGIN
    IF new.replay_id IS NOT NULL THEN
        UPDATE @extschema@.replays p SET cursor = new.upto
         WHERE p.replay_id = new.replay_id AND p.slot = new.slot AND p.cursor < new.upto;
        is_further := FOUND;
        DELETE FROM @extschema@.replays p WHERE p.replay_id = new.replay_id AND p.slot = new.slot AND p.cursor >= p.upto;
    END IF;
    IF coalesce(new.events, 1) + new.retries > 0 THEN -- NULL: not counted, some
        new.until := clock_timestamp() + duration;
        INSERT INTO @extschema@.leases VALUES (new.*);
        UPDATE @extschema@.cursors c
           SET cursor = CASE WHEN new.replay_id IS NULL THEN greatest(c.cursor, new.upto) ELSE c.cursor END,
               epoch = new.epoch, last_triggered_at = clock_timestamp()
         WHERE c.subscription_id = new.subscription_id AND c.slot = new.slot;
        RETURN new;
    END IF;
    new.token := NULL; -- no lease; upto below the horizon says that there is more to look at
    IF new.replay_id IS NULL THEN
        UPDATE @extschema@.cursors c SET cursor = new.upto
         WHERE c.subscription_id = new.subscription_id AND c.slot = new.slot AND c.cursor < new.upto;
        is_further := FOUND;
    END IF;
    IF NOT is_further THEN
        RETURN NULL;
    END IF;
    RETURN new;
END $$;
COMMENT ON FUNCTION @extschema@.write_lease(@extschema@.leases, interval) IS
    'Internal: write a lease down and move the cursor, its slot''s or its replay''s; without events only the cursor. Its token is NULL when there is no lease.';
