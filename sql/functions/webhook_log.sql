-- What webhook_attempts shows of one webhook, but each of the tables behind it is read from its end, or for one event alone:
-- planned for the values at hand.
CREATE OR REPLACE FUNCTION @extschema@.webhook_log(name text, event uuid DEFAULT NULL, failed boolean DEFAULT false, most bigint DEFAULT 100)
    RETURNS TABLE (attempt_id bigint, subscription text, event_id uuid, event_type text, "position" bigint, attempt integer, trigger text,
        url text, outcome text, http_status integer, response text, error text, duration interval, started_at timestamptz,
        next_attempt_at timestamptz)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan
    -- along an index, whatever the statistics of a young table say
    SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
#variable_conflict use_column
BEGIN
    IF coalesce(most < 0, true) THEN
        PERFORM @extschema@.fail('TL005', 'most is not 0 or more', '{"field": "most", "limit": 0}');
    END IF;
    RETURN QUERY
        SELECT q.* FROM (
            (SELECT a.attempt_id, a.subscription, a.event_id, a.event_type, a."position", a.attempt, a.trigger, a.url, a.outcome, a.http_status,
                    a.response, a.error, a.duration, a.started_at, nullif(r.next_attempt_at, 'infinity')
               FROM @extschema@.delivery_attempts a
               LEFT JOIN @extschema@.retries r ON r.subscription_id = a.subscription_id AND r."position" = a."position" AND r.attempt = a.attempt
                    AND r.token IS NULL AND a.outcome = 'failed'
              WHERE a.subscription = webhook_log.name AND (webhook_log.event IS NULL OR a.event_id = webhook_log.event) AND (failed IS NOT TRUE OR a.outcome = 'failed')
              ORDER BY a.attempt_id DESC LIMIT most)
            UNION ALL
            (SELECT a.call_id + x.number, a.subscription, x.event_id, x.event_type, x."position", 1, 'scheduled', a.url, 'delivered', a.http_status,
                    '', NULL, x.duration_us * interval '1 us', timestamptz '1970-01-01 00:00:00Z' + x.started_us * interval '1 us', NULL
               FROM (SELECT * FROM @extschema@.delivery_runs y
                      WHERE failed IS NOT TRUE AND CASE WHEN webhook_log.event IS NULL THEN y.subscription = webhook_log.name
                            ELSE y.last_event >= webhook_log.event AND y.first_event <= webhook_log.event END
                      -- each has one at least; those of one call overlap. Of an event there are few, in no order, which would lead past all.
                      ORDER BY CASE WHEN webhook_log.event IS NULL THEN y.call_id END DESC
                      FETCH FIRST (CASE WHEN webhook_log.event IS NULL THEN most ELSE 9223372036854775807 END) ROWS WITH TIES) a,
                    unnest(a.numbers, a.event_ids, a.event_types, a.positions, a.durations_us, a.started_us)
                        x(number, event_id, event_type, "position", duration_us, started_us)
              WHERE a.subscription = webhook_log.name AND (webhook_log.event IS NULL OR x.event_id = webhook_log.event)
              ORDER BY a.call_id DESC, a.call_id + x.number DESC LIMIT most)) q
         ORDER BY q.attempt_id DESC LIMIT most;
END $$;
COMMENT ON FUNCTION @extschema@.webhook_log(text, uuid, boolean, bigint) IS
    'The latest requests to a webhook, those of webhook_attempts, latest first: of one event, or of all; failed: only those that failed; at most so many. It may have been unsubscribed; nothing when there is none. TL005 names the argument.';
