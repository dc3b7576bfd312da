CREATE OR REPLACE FUNCTION @extschema@.slot_may_have(s @extschema@.subscriptions, c @extschema@.cursors, h bigint) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now_at timestamptz := clock_timestamp();
BEGIN
    IF (s.max_in_flight IS NOT NULL OR s.rate_limit IS NOT NULL) AND @extschema@.allowance(s, false) < 1 THEN
        RETURN false;
    ELSIF EXISTS (SELECT FROM @extschema@.leases l
                   WHERE l.subscription_id = c.subscription_id AND l.slot = c.slot AND (NOT l.held OR l.until <= clock_timestamp()))
    THEN
        RETURN true;
    ELSIF s.ordering <> 'none' AND EXISTS (SELECT FROM @extschema@.leases l WHERE l.subscription_id = c.subscription_id AND l.slot = c.slot) THEN
        RETURN false;
    END IF;
    RETURN c.cursor < least(h, s.resize_at, s.drain_at)
        OR coalesce((SELECT true FROM @extschema@.retries r
                      WHERE r.subscription_id = c.subscription_id AND r.slot = c.slot AND r.token IS NULL AND r.next_attempt_at <= now_at
                      ORDER BY r.next_attempt_at LIMIT 1), false)
        OR EXISTS (SELECT FROM @extschema@.replays p
                    WHERE p.subscription_id = c.subscription_id AND p.slot = c.slot
                      AND (p.rate IS NULL OR @extschema@.tokens(p.tokens, p.refilled_at, p.rate) >= 1));
END $$;
COMMENT ON FUNCTION @extschema@.slot_may_have(@extschema@.subscriptions, @extschema@.cursors, bigint) IS
    'Internal: whether a claim of this slot may find something; looks only, locks nothing.';
