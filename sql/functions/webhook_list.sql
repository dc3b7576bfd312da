-- What a daemon has to know of webhooks beside their targets, asked every second. It takes its turn
-- at endpoints whose pause is over: one daemon at a time tries them, and goes on while it asks.
CREATE OR REPLACE FUNCTION @extschema@.webhook_list(owner text)
    RETURNS TABLE (subscription_id bigint, secrets text, headers text, format text, log text, concurrency integer,
        breaker_failures integer, breaker_pause_us bigint, failures integer, open_us bigint, is_probe boolean)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    UPDATE @extschema@.endpoints e SET prober = webhook_list.owner, probe_until = clock_timestamp() + interval '10 s'
      FROM (SELECT x.subscription_id FROM @extschema@.endpoints x
             WHERE x.open_until <= clock_timestamp()
               AND (x.probe_until IS NULL OR x.probe_until <= clock_timestamp()
                    OR x.prober = webhook_list.owner AND x.probe_until <= clock_timestamp() + interval '5 s')
             ORDER BY 1 FOR UPDATE SKIP LOCKED) due
     WHERE e.subscription_id = due.subscription_id;
    RETURN QUERY
        SELECT s.subscription_id,
               (SELECT string_agg(k.secret, ' ' ORDER BY k.secret_id DESC) FROM (
                    SELECT w.secret_id, w.secret FROM @extschema@.webhook_secrets w
                     WHERE w.subscription_id = s.subscription_id AND (w.expires_at IS NULL OR w.expires_at > clock_timestamp())
                     ORDER BY w.secret_id DESC LIMIT 10) k),
               (SELECT string_agg(h.key || ': ' || h.value, E'\n' ORDER BY h.key) FROM jsonb_each_text(s.target_options -> 'headers') h),
               coalesce(s.target_options ->> 'format', 'plain'), coalesce(s.target_options ->> 'log', 'all'),
               (s.target_options ->> 'concurrency')::integer,
               coalesce((s.target_options ->> 'breaker_failures')::integer, 10),
               (extract(epoch FROM coalesce(@extschema@.interval_of(s.target_options ->> 'breaker_pause'), interval '30 s')) * 1000000)::bigint,
               coalesce(e.failures, 0),
               CASE WHEN e.open_until IS NOT NULL THEN (greatest(extract(epoch FROM e.open_until - clock_timestamp()), 0) * 1000000)::bigint END,
               coalesce(e.open_until <= clock_timestamp() AND e.prober = webhook_list.owner AND e.probe_until > clock_timestamp(), false)
          FROM @extschema@.subscriptions s
          LEFT JOIN @extschema@.endpoints e ON e.subscription_id = s.subscription_id
         WHERE s.active AND s.target ~ '^https?://';
END $$;
COMMENT ON FUNCTION @extschema@.webhook_list(text) IS
    'Internal: settings, keys and breakers of the active webhooks, for the daemon of that name. open_us: NULL closed, 0 its pause is over.';
