CREATE OR REPLACE FUNCTION @extschema@.next_due(subscriptions bigint[]) RETURNS bigint LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- greatest() passes over NULL, which here says "none"
    RETURN (SELECT CASE WHEN q.us IS NOT NULL THEN greatest(0, ceil(q.us))::bigint END FROM (SELECT extract(epoch FROM min(
            -- a slot that is taken can give nothing before its lease ends
            CASE WHEN s.ordering <> 'none' AND h.until IS NOT NULL THEN h.until
                 ELSE least(h.until,
                     (SELECT min(r.next_attempt_at) FROM @extschema@.retries r
                       WHERE r.subscription_id = s.subscription_id AND r.token IS NULL),
                     (SELECT clock_timestamp() FROM @extschema@.leases l
                       WHERE l.subscription_id = s.subscription_id AND NOT l.held LIMIT 1)) END)
            - clock_timestamp()) * 1000000 AS us
      FROM @extschema@.subscriptions s
      JOIN LATERAL (SELECT min(l.until) AS until FROM @extschema@.leases l
                     WHERE l.subscription_id = s.subscription_id AND l.held) h ON true
     WHERE s.subscription_id = ANY (subscriptions) AND s.active
       AND (s.mode = 'async' OR s.target IS NULL OR s.target NOT LIKE 'sql:%')) q);
END $$;
COMMENT ON FUNCTION @extschema@.next_due(bigint[]) IS
    'Microseconds until the next retry or lease expiry of these subscriptions; 0: now, NULL: none.';
