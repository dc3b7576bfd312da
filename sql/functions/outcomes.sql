-- Nothing is written for an event that goes well, so its state is derived: retries and dead letters
-- name it, a lease or a cursor covers it. One statement, so one snapshot.
CREATE OR REPLACE FUNCTION @extschema@.outcomes(event_id uuid DEFAULT NULL, topic text DEFAULT 'bus', at bigint DEFAULT NULL)
    RETURNS TABLE (subscription text, mode text, active boolean, state text, attempts integer, error text,
        last_error_at timestamptz, ended_at timestamptz)
    LANGUAGE plpgsql STABLE ROWS 10
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    e @extschema@.events;
BEGIN
    IF (outcomes.event_id IS NULL) = (outcomes.at IS NULL) THEN
        PERFORM @extschema@.fail('TL005', 'outcomes() takes an event_id, or a topic and a position', '{"field": "event_id"}');
    END IF;
    IF outcomes.event_id IS NOT NULL THEN
        SELECT l.topic, l."position" INTO topic, at FROM @extschema@.locate(outcomes.event_id) l LIMIT 1;
    ELSE
        PERFORM @extschema@.topic_id_of(outcomes.topic);
    END IF;
    IF at IS NOT NULL THEN
        EXECUTE format('SELECT x.* FROM @extschema@.%I x WHERE x."position" = $1', 'topic_' || topic) INTO e USING at;
    END IF;
    IF e."position" IS NULL THEN
        PERFORM @extschema@.fail('TL002', CASE WHEN outcomes.event_id IS NULL THEN format('there is no event at position %s of topic "%s"', at, topic)
                ELSE format('event %s is not known', outcomes.event_id) END,
            jsonb_build_object('field', CASE WHEN outcomes.event_id IS NULL THEN 'at' ELSE 'event_id' END));
    END IF;
    RETURN QUERY
    SELECT s.name, s.mode, s.active,
           CASE WHEN base.state = 'completed' THEN coalesce(tracked.state, 'completed')
                WHEN base.state = 'pending' AND e.expires_at <= clock_timestamp() THEN 'expired'
                ELSE base.state END,
           coalesce(r.attempt, d.attempts, l.attempt, tracked.attempts, CASE WHEN s.is_inline THEN 1 END),
           nullif(coalesce(r.error_message, d.error_message, tracked.error_message), ''),
           coalesce(r.last_error_at, (d.errors -> -1 ->> 'at')::timestamptz, d.dead_at),
           CASE WHEN base.state NOT IN ('pending', 'processing', 'retrying')
                THEN coalesce(d.settled_at, d.dead_at, tracked.completed_at, CASE WHEN s.is_inline THEN e.created_at END) END
      FROM (SELECT x.*, coalesce(x.mode = 'sync' AND x.target LIKE 'sql:%', false) AS is_inline,
                   (SELECT count(*) FROM @extschema@.cursors c WHERE c.subscription_id = x.subscription_id)::integer AS width
              FROM @extschema@.subscriptions x) s
      CROSS JOIN LATERAL (SELECT CASE WHEN s.width <= 1 THEN 0 WHEN e.key IS NULL THEN (e."position" % s.width)::integer
                                      ELSE ('x' || left(md5(e.key), 7))::bit(28)::integer % s.width END AS slot) place
      JOIN @extschema@.cursors c ON c.subscription_id = s.subscription_id AND c.slot = place.slot
      LEFT JOIN @extschema@.retries r ON r.subscription_id = s.subscription_id AND r."position" = e."position"
      LEFT JOIN @extschema@.dead_letters d ON d.subscription_id = s.subscription_id AND d."position" = e."position" AND r.subscription_id IS NULL
      LEFT JOIN LATERAL (SELECT y.attempt, y.held AND y.until > clock_timestamp() AS is_held FROM @extschema@.leases y
                          WHERE y.subscription_id = s.subscription_id AND y.slot = place.slot AND y.replay_id IS NULL
                            AND y.after < e."position" AND y.upto >= e."position"
                            AND r.subscription_id IS NULL AND d.dead_letter_id IS NULL LIMIT 1) l ON true
      LEFT JOIN @extschema@.deliveries tracked ON s.track = 'all' AND tracked.subscription_id = s.subscription_id AND tracked."position" = e."position"
               AND tracked.state IN ('completed', 'skipped', 'failed', 'expired')
      CROSS JOIN LATERAL (SELECT CASE
              WHEN s.is_inline THEN 'completed'
              WHEN r.token IS NOT NULL THEN 'processing'
              WHEN r.subscription_id IS NOT NULL THEN CASE WHEN r.attempt = 0 AND r.event IS NULL THEN 'pending' ELSE 'retrying' END
              WHEN d.state IN ('redriven', 'resolved') THEN 'completed'
              WHEN d.reason IN ('expired', 'skipped') THEN d.reason
              WHEN d.dead_letter_id IS NOT NULL THEN 'failed'
              WHEN l.is_held THEN 'processing'
              WHEN l.is_held IS NOT NULL OR c.cursor < e."position" THEN 'pending'
              ELSE 'completed' END AS state) base
     WHERE s.topic_id = e.topic_id AND e.type ~ coalesce(@extschema@.pattern_regex(s.pattern), '')
       AND (s.tenant_id IS NULL OR s.tenant_id = e.tenant_id)
       AND (s.filter IS NULL OR e.data @> s.filter)
       AND (s.filter_path IS NULL OR jsonb_path_match_tz(e.data, s.filter_path, '{}', true))
       -- not those that began later
       AND (CASE WHEN s.is_inline THEN e."position" > c.cursor ELSE e."position" > s.starts_after OR e."position" > c.cursor END
            OR r.subscription_id IS NOT NULL OR d.dead_letter_id IS NOT NULL OR l.is_held IS NOT NULL)
     ORDER BY s.priority DESC, s.name;
END $$;
COMMENT ON FUNCTION @extschema@.outcomes(uuid, text, bigint) IS
    'What became of one event, by its id or by topic and position: a row for each subscription that wants it. state: pending, processing, retrying, completed, failed (dead letter), expired or skipped (that one only of dead letters and with track = all; else completed). attempts begun: NULL where nothing was kept of an event that went well. error: the last one. ended_at: NULL when not ended, or not kept. A completed event of a subscription that was reset or resumed past it may not have been handled. TL002 no such event.';
