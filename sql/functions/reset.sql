CREATE OR REPLACE FUNCTION @extschema@.reset(name text, start_at text)
    RETURNS TABLE (cursor bigint, leases bigint, retries bigint, replays bigint) LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s @extschema@.subscriptions := @extschema@.lock_subscription(reset.name);
BEGIN
    IF s.mode = 'sync' AND s.target LIKE 'sql:%' THEN
        PERFORM @extschema@.fail('TL005', format('subscription "%s" runs in its publishers'' transactions, it has no place in the log', s.name),
            '{"field": "name"}');
    END IF;
    cursor := @extschema@.start_cursor((SELECT t.name FROM @extschema@.topics t WHERE t.topic_id = s.topic_id), reset.start_at);
    -- nobody gives a lease while we hold these
    PERFORM @extschema@.lock_cursors(s.subscription_id);
    DELETE FROM @extschema@.replays p WHERE p.subscription_id = s.subscription_id;
    GET DIAGNOSTICS replays = ROW_COUNT;
    PERFORM FROM @extschema@.leases l WHERE l.subscription_id = s.subscription_id ORDER BY l.token FOR UPDATE;
    DELETE FROM @extschema@.leases l WHERE l.subscription_id = s.subscription_id;
    GET DIAGNOSTICS leases = ROW_COUNT;
    DELETE FROM @extschema@.retries r WHERE r.subscription_id = s.subscription_id AND r.event IS NULL;
    GET DIAGNOSTICS retries = ROW_COUNT;
    -- those that a person asked for stay; one in flight was fenced
    UPDATE @extschema@.retries r SET token = NULL, attempt = r.attempt - 1, next_attempt_at = clock_timestamp()
     WHERE r.subscription_id = s.subscription_id AND r.token IS NOT NULL;
    DELETE FROM @extschema@.deliveries d
     WHERE d.subscription_id = s.subscription_id AND d.completed_at IS NULL
       AND NOT EXISTS (SELECT FROM @extschema@.retries r WHERE r.subscription_id = d.subscription_id AND r."position" = d."position");
    UPDATE @extschema@.cursors c SET cursor = reset.cursor WHERE c.subscription_id = s.subscription_id;
    UPDATE @extschema@.subscriptions x SET starts_after = reset.cursor
     WHERE x.subscription_id = s.subscription_id AND x.starts_after > reset.cursor;
    IF s.resize_at IS NOT NULL THEN
        UPDATE @extschema@.subscriptions x SET resize_at = reset.cursor WHERE x.subscription_id = s.subscription_id;
        PERFORM @extschema@.finish_changes(s.subscription_id);
    END IF;
    PERFORM @extschema@.wake_listeners();
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION @extschema@.reset(text, text) IS
    'Set a subscription to another place: start_at is end, beginning, a position (events after it come next) or a time. What it had begun is dropped and counted: leases in flight (fenced: their settling fails with TL004), events that waited for another attempt or for their key, slots of replays. Redriven events stay. Returns where it is now and these numbers. Whether it is paused does not change. TL002, TL005.';
