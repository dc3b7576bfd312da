-- The subscriptions row is locked already where it may have to stop: see ack(), take_leftover().
CREATE OR REPLACE FUNCTION @extschema@.give_up(s @extschema@.subscriptions, topic text, r @extschema@.retries, reason text)
    RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- a redriven event has no place in the order, so it stops nothing
    IF s.on_failure <> 'stop' OR r.event IS NOT NULL OR reason NOT IN ('max_attempts', 'rejected', 'crashed') THEN
        PERFORM @extschema@.bury(s, topic, r."position", reason, r.attempt, r.error_message, r.errors, r.event);
        DELETE FROM @extschema@.retries x WHERE x.subscription_id = r.subscription_id AND x."position" = r."position";
        RETURN false;
    END IF;
    INSERT INTO @extschema@.retries AS x (subscription_id, "position", slot, attempt, next_attempt_at, error_message, last_error_at, errors, key, delay, replay_id)
        VALUES (r.subscription_id, r."position", r.slot, r.attempt, 'infinity', r.error_message, clock_timestamp(), r.errors, r.key,
            coalesce(r.delay, interval '0'), r.replay_id)
        ON CONFLICT (subscription_id, "position") DO UPDATE
           SET token = NULL, solo = false, next_attempt_at = 'infinity', error_message = excluded.error_message,
               last_error_at = excluded.last_error_at, errors = excluded.errors;
    UPDATE @extschema@.subscriptions x
       SET active = false, paused_at = clock_timestamp(), updated_at = clock_timestamp(),
           pause_reason = format(CASE reason WHEN 'rejected' THEN 'event at position %1$s was rejected: %3$s'
               ELSE 'event at position %1$s failed %2$s times: %3$s' END, r."position", r.attempt, r.error_message)
     WHERE x.subscription_id = s.subscription_id AND x.active;
    RETURN true;
END $$;
COMMENT ON FUNCTION @extschema@.give_up(@extschema@.subscriptions, text, @extschema@.retries, text) IS
    'Internal: an event has used up its attempts or was rejected: it becomes a dead letter, or under on_failure stop it stays and the subscription pauses. Returns whether it stays.';
