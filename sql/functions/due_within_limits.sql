CREATE OR REPLACE FUNCTION @extschema@.due_within_limits(s @extschema@.subscriptions, c @extschema@.cursors, at timestamptz)
    RETURNS timestamptz LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t    @extschema@.throttles;
    have double precision;
BEGIN
    IF s.max_in_flight IS NOT NULL
       AND s.max_in_flight <= (SELECT coalesce(sum(coalesce(l.events, 0) + l.retries), 0) FROM @extschema@.leases l
            WHERE l.subscription_id = s.subscription_id AND l.held AND l.until > clock_timestamp())
    THEN
        -- whoever settles some looks again
        RETURN (SELECT min(l.until) FROM @extschema@.leases l WHERE l.subscription_id = s.subscription_id AND l.held);
    END IF;
    IF s.rate_limit IS NOT NULL THEN
        SELECT * INTO t FROM @extschema@.throttles x WHERE x.subscription_id = s.subscription_id;
        have := @extschema@.tokens(t.tokens, t.refilled_at, s.rate_limit);
        IF have < 1 THEN
            -- for fresh events too; a smaller rate would lead beyond the end of time
            at := greatest(at, clock_timestamp() + (1 - have) / greatest(s.rate_limit, 1e-6) * interval '1 s');
        END IF;
    END IF;
    IF (s.resize_at IS NOT NULL OR s.drain_at IS NOT NULL AND NOT EXISTS (
            SELECT FROM @extschema@.retries r WHERE r.subscription_id = s.subscription_id))
       AND NOT EXISTS (SELECT FROM @extschema@.leases l WHERE l.subscription_id = s.subscription_id)
       AND NOT EXISTS (SELECT FROM @extschema@.replays p WHERE p.subscription_id = s.subscription_id)
       AND NOT EXISTS (SELECT FROM @extschema@.cursors x WHERE x.subscription_id = s.subscription_id AND x.cursor < least(s.resize_at, s.drain_at))
    THEN
        RETURN clock_timestamp();
    END IF;
    RETURN at;
END $$;
COMMENT ON FUNCTION @extschema@.due_within_limits(@extschema@.subscriptions, @extschema@.cursors, timestamptz) IS
    'Internal: when a slot that has work at a time may get it, given max_in_flight, rate_limit, a change of slots and draining; NULL: none.';
