CREATE OR REPLACE FUNCTION @extschema@.spend_tokens(s @extschema@.subscriptions, l @extschema@.leases) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF l.events + l.retries = 0 THEN
        RETURN;
    END IF;
    IF s.rate_limit IS NOT NULL THEN
        UPDATE @extschema@.throttles t
           SET tokens = @extschema@.tokens(t.tokens, t.refilled_at, s.rate_limit) - l.events - l.retries, refilled_at = clock_timestamp()
         WHERE t.subscription_id = s.subscription_id;
    END IF;
    IF l.replay_id IS NOT NULL THEN
        UPDATE @extschema@.replays p
           SET tokens = @extschema@.tokens(p.tokens, p.refilled_at, p.rate) - l.events, refilled_at = clock_timestamp()
         WHERE p.replay_id = l.replay_id AND p.slot = l.slot AND p.rate IS NOT NULL;
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.spend_tokens(@extschema@.subscriptions, @extschema@.leases) IS
    'Internal: the events of a new lease count against rate_limit and the rate of a replay.';
