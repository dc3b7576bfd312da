CREATE OR REPLACE FUNCTION @extschema@.drain(name text) RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s  @extschema@.subscriptions := @extschema@.lock_subscription(drain.name);
    at bigint;
BEGIN
    IF NOT s.active THEN
        PERFORM @extschema@.fail('TL001', format('subscription "%s" is paused', s.name), '{"field": "name"}', 'Resume it first.');
    END IF;
    at := @extschema@.horizon((SELECT t.name FROM @extschema@.topics t WHERE t.topic_id = s.topic_id));
    UPDATE @extschema@.subscriptions x SET drain_at = at, updated_at = clock_timestamp() WHERE x.subscription_id = s.subscription_id;
    PERFORM @extschema@.finish_changes(s.subscription_id);
    RETURN at;
END $$;
COMMENT ON FUNCTION @extschema@.drain(text) IS
    'Hand out what is in the log now and nothing later; when all of it is settled, retries too, the subscription pauses with reason drained, at once if nothing is left. Returns the last position. resume() ends a drain. TL001 when it is paused, TL002.';
