CREATE OR REPLACE FUNCTION @extschema@.bury_expired(
        s @extschema@.subscriptions, topic text, l @extschema@.leases, at bigint, is_retry boolean)
    RETURNS boolean LANGUAGE plpgsql VOLATILE COST 1000000
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r @extschema@.retries;
BEGIN
    IF is_retry THEN
        DELETE FROM @extschema@.retries x WHERE x.subscription_id = s.subscription_id AND x."position" = at RETURNING * INTO r;
        PERFORM @extschema@.bury(s, topic, at, 'expired', r.attempt - 1, r.error_message, r.errors);
        IF r.key IS NOT NULL THEN
            PERFORM @extschema@.promote_keys(s.subscription_id, ARRAY[r.key]);
        END IF;
    ELSIF NOT EXISTS (SELECT FROM @extschema@.dead_letters d WHERE d.subscription_id = s.subscription_id AND d."position" = at) THEN
        -- else it was buried by an earlier claim of this range
        PERFORM @extschema@.bury(s, topic, at, 'expired', l.attempt - 1, '', '[]');
    END IF;
    IF l.is_tracked THEN
        INSERT INTO @extschema@.deliveries AS x (subscription_id, "position", event_id, state, attempts, started_at, completed_at)
            SELECT s.subscription_id, at, (d.event ->> 'id')::uuid, 'expired', d.attempts, clock_timestamp(), clock_timestamp()
              FROM @extschema@.dead_letters d WHERE d.subscription_id = s.subscription_id AND d."position" = at
            ON CONFLICT (subscription_id, "position") DO UPDATE SET state = 'expired', completed_at = excluded.completed_at;
    END IF;
    RETURN false;
END $$;
COMMENT ON FUNCTION @extschema@.bury_expired(@extschema@.subscriptions, text, @extschema@.leases, bigint, boolean) IS
    'Internal: an event has expired before it could be handed out: a dead letter instead; false.';
