CREATE OR REPLACE FUNCTION @extschema@.next_due(subscriptions bigint[]) RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    -- its plan is made when nothing waits, and must serve when much does
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
BEGIN
    -- least() and greatest() pass over NULL, which here says "none"
    RETURN (SELECT CASE WHEN q.us IS NOT NULL THEN greatest(0, ceil(q.us))::bigint END FROM (SELECT extract(epoch FROM min(
            -- a slot that is taken can give nothing before its leases end
            CASE WHEN s.ordering <> 'none' AND h.until IS NOT NULL THEN h.last
                 WHEN (s.resize_at, s.drain_at, s.max_in_flight, s.rate_limit) IS NULL THEN least(h.until, w.at)
                 ELSE least(h.until, @extschema@.due_within_limits(s, c, w.at)) END)
            - clock_timestamp()) * 1000000 AS us
      FROM @extschema@.subscriptions s
      JOIN @extschema@.cursors c ON c.subscription_id = s.subscription_id
      JOIN LATERAL (SELECT min(l.until) AS until, max(l.until) AS last FROM @extschema@.leases l
                     WHERE l.subscription_id = c.subscription_id AND l.slot = c.slot AND l.held) h ON true
      -- where all wait for an event that failed, nothing but that comes next
      JOIN LATERAL (SELECT @extschema@.order_key(s, NULL) IS NOT NULL
                AND EXISTS (SELECT FROM @extschema@.retries r WHERE r.subscription_id = c.subscription_id AND r.key IS NOT NULL) AS is_blocked) b ON true
      JOIN LATERAL (SELECT CASE WHEN b.is_blocked THEN least(
                (SELECT CASE WHEN r.token IS NULL THEN nullif(r.next_attempt_at, 'infinity') END FROM @extschema@.retries r
                  WHERE r.subscription_id = c.subscription_id AND r.key = '' ORDER BY r."position" LIMIT 1),
                (SELECT r.next_attempt_at FROM @extschema@.retries r
                  WHERE r.subscription_id = c.subscription_id AND r.slot = c.slot AND r.token IS NULL AND r.next_attempt_at < 'infinity'
                    AND r.key IS DISTINCT FROM '' ORDER BY r.next_attempt_at LIMIT 1))
            ELSE least(
                (SELECT r.next_attempt_at FROM @extschema@.retries r
                  WHERE r.subscription_id = c.subscription_id AND r.slot = c.slot AND r.token IS NULL AND r.next_attempt_at < 'infinity'
                  ORDER BY r.next_attempt_at LIMIT 1),
                (SELECT clock_timestamp() FROM @extschema@.leases l
                  WHERE l.subscription_id = c.subscription_id AND l.slot = c.slot AND NOT l.held LIMIT 1),
                (SELECT min(CASE WHEN p.rate IS NULL THEN clock_timestamp()
                        ELSE clock_timestamp() + greatest(1 - @extschema@.tokens(p.tokens, p.refilled_at, p.rate), 0) / greatest(p.rate, 1e-6) * interval '1 s' END)
                   FROM @extschema@.replays p WHERE p.subscription_id = c.subscription_id AND p.slot = c.slot)) END AS at) w ON true
     -- a subquery: where the planner sees how many they are, it plans this anew in each call
     WHERE s.subscription_id = ANY ((SELECT next_due.subscriptions)::bigint[]) AND s.active
       AND (s.mode = 'async' OR s.target IS NULL OR s.target NOT LIKE 'sql:%')) q);
END $$;
COMMENT ON FUNCTION @extschema@.next_due(bigint[]) IS
    'Microseconds until the next retry, lease expiry, replayed event or token of these subscriptions; 0: now, NULL: none.';
