-- What set_slots() and drain() began ends here, by whoever comes by: a claim, maintain(), or at once.
CREATE OR REPLACE FUNCTION @extschema@.finish_changes(of_subscription bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s     @extschema@.subscriptions;
    topic text;
    lowest bigint;
    most  bigint;
    last  bigint;
BEGIN
    SELECT x.* INTO s FROM @extschema@.subscriptions x WHERE x.subscription_id = of_subscription FOR NO KEY UPDATE;
    IF s.resize_at IS NULL AND (s.drain_at IS NULL OR NOT s.active) THEN
        RETURN false;
    END IF;
    PERFORM @extschema@.lock_cursors(of_subscription);
    -- later statements than the locks: leases are given under them
    IF EXISTS (SELECT FROM @extschema@.leases l WHERE l.subscription_id = of_subscription) THEN
        RETURN false;
    END IF;
    SELECT min(c.cursor), max(c.cursor), max(c.epoch) INTO lowest, most, last
      FROM @extschema@.cursors c WHERE c.subscription_id = of_subscription;
    IF s.resize_at IS NOT NULL AND lowest = most THEN
        SELECT t.name INTO STRICT topic FROM @extschema@.topics t WHERE t.topic_id = s.topic_id;
        -- epochs go on, so that no lease of a slot ever had the number of an earlier one
        DELETE FROM @extschema@.cursors c WHERE c.subscription_id = of_subscription AND c.slot >= s.slots;
        INSERT INTO @extschema@.cursors AS c (subscription_id, slot, cursor, epoch)
            SELECT of_subscription, n, most, last FROM generate_series(0, s.slots - 1) n
            ON CONFLICT (subscription_id, slot) DO UPDATE SET epoch = last;
        EXECUTE format('UPDATE @extschema@.retries r SET slot = @extschema@.slot_of(coalesce(r.event ->> ''key'', e.key), r."position", $2)
              FROM @extschema@.retries x LEFT JOIN @extschema@.%I e ON e."position" = x."position" AND x.event IS NULL
             WHERE x.subscription_id = $1 AND r.subscription_id = $1 AND r."position" = x."position"', 'topic_' || topic)
            USING of_subscription, s.slots;
        UPDATE @extschema@.subscriptions x SET resize_at = NULL, updated_at = clock_timestamp() WHERE x.subscription_id = of_subscription;
        RETURN true;
    END IF;
    IF s.active AND (s.drain_at <= lowest OR s.mode = 'sync' AND s.target ~ '^sql:')
       AND NOT EXISTS (SELECT FROM @extschema@.retries r WHERE r.subscription_id = of_subscription)
       AND NOT EXISTS (SELECT FROM @extschema@.replays p WHERE p.subscription_id = of_subscription)
    THEN
        UPDATE @extschema@.subscriptions x
           SET active = false, paused_at = clock_timestamp(), pause_reason = 'drained', drain_at = NULL, updated_at = clock_timestamp()
         WHERE x.subscription_id = of_subscription;
        RETURN true;
    END IF;
    RETURN false;
END $$;
COMMENT ON FUNCTION @extschema@.finish_changes(bigint) IS
    'Internal: finish a change of slots or a drain of a subscription if nothing is in its way any more; true: one has ended. Takes locks from the subscription on, so call it before any other.';
