-- The results of requests to webhooks, many at a time, by the daemon that made them: the log, the
-- breaker, the end of endpoints that fail for days, and what operators hear of it. Arrays, one for each
-- column: of a busy webhook this is most of what the server has to do, and JSON would double it.
-- Lock order: subscriptions -> endpoints.
CREATE OR REPLACE FUNCTION @extschema@.record_attempts(
        subscription_ids bigint[], event_ids uuid[], event_types text[], positions bigint[], attempts integer[], resend_ids bigint[],
        urls text[], delivered boolean[], rejected boolean[], http_statuses integer[], responses text[], errors text[],
        durations_us bigint[], started_us bigint[])
    RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    a           record;
    logged      bigint;
    call_id     bigint;
    now_us      bigint;
    is_few      boolean; -- to be worth a row of arrays
    is_plain    boolean;
    least_id    text;
    greatest_id text;
BEGIN
    IF cardinality(event_ids) > 9999 THEN -- so many numbers a call has
        PERFORM @extschema@.fail('TL005', 'event_ids has more than 9999 elements', '{"field": "event_ids", "limit": 9999}');
    END IF;
    call_id := nextval('@extschema@.delivery_attempts_attempt_id_seq');
    now_us := extract(epoch FROM clock_timestamp()) * 1000000;
    is_few := coalesce(cardinality(event_ids), 0) < 8;
    is_plain := coalesce(NOT is_few AND subscription_ids[1] = ALL (subscription_ids) AND urls[1] = ALL (urls)
        AND http_statuses[1] = ALL (http_statuses) AND true = ALL (delivered) AND '' = ALL (responses) AND array_remove(errors, NULL) = '{}'
        AND 1 = ALL (attempts) AND array_remove(resend_ids, NULL) = '{}' AND now_us - 1800000000 <= ALL (started_us)
        AND now_us + 1800000000 >= ALL (started_us), false);
    IF is_plain THEN
        SELECT min(u::text COLLATE "C"), max(u::text COLLATE "C"), bool_and(substr(u::text, 15, 1) = '7') INTO least_id, greatest_id, is_plain
          FROM unnest(event_ids) u;
    END IF;
    IF is_plain THEN
        -- the same as below, of one webhook: as it came
        INSERT INTO @extschema@.delivery_runs (call_id, first, subscription_id, subscription, url, http_status, started_at, first_event, last_event,
                numbers, event_ids, event_types, positions, durations_us, started_us)
        SELECT call_id, 1, y.subscription_id, y.name, urls[1], http_statuses[1],
               timestamptz '1970-01-01 00:00:00Z' + (SELECT max(u) FROM unnest(record_attempts.started_us) u) * interval '1 us',
               least_id::uuid, greatest_id::uuid, ARRAY(SELECT generate_series(1, cardinality(event_ids))), event_ids, event_types, positions,
               durations_us, record_attempts.started_us
          FROM @extschema@.subscriptions y
         WHERE y.subscription_id = subscription_ids[1] AND coalesce(y.target_options ->> 'log', 'all') = 'all';
        logged := CASE WHEN FOUND THEN cardinality(event_ids) ELSE 0 END;
    ELSIF is_few THEN
        INSERT INTO @extschema@.delivery_attempts (attempt_id, subscription_id, subscription, event_id, event_type, "position", attempt, trigger,
                url, outcome, http_status, response, error, duration, started_at) OVERRIDING SYSTEM VALUE
        SELECT call_id + x.number, y.subscription_id, y.name, x.event_id, x.event_type, x."position", x.attempt,
               CASE WHEN x.resend_id IS NULL THEN 'scheduled' ELSE 'manual' END, x.url,
               CASE WHEN x.is_delivered THEN 'delivered' ELSE 'failed' END, x.http_status, x.response, x.error,
               x.duration_us * interval '1 us', timestamptz '1970-01-01 00:00:00Z' + x.started_us * interval '1 us'
          FROM unnest(subscription_ids, event_ids, event_types, positions, record_attempts.attempts, resend_ids, urls, delivered, http_statuses,
                   responses, errors, durations_us, record_attempts.started_us)
               WITH ORDINALITY x(subscription_id, event_id, event_type, "position", attempt, resend_id, url, is_delivered, http_status,
                   response, error, duration_us, started_us, number)
          JOIN @extschema@.subscriptions y USING (subscription_id)
         WHERE CASE coalesce(y.target_options ->> 'log', 'all') WHEN 'all' THEN true WHEN 'failures' THEN NOT x.is_delivered ELSE false END;
        GET DIAGNOSTICS logged = ROW_COUNT;
    ELSE
        WITH s AS MATERIALIZED (
            SELECT y.subscription_id, y.name, coalesce(y.target_options ->> 'log', 'all') AS log
              FROM @extschema@.subscriptions y WHERE y.subscription_id = ANY (subscription_ids)),
        x AS MATERIALIZED (
            SELECT s.name, x.*,
                   -- Many in one row, where nothing is to be said of one alone. Version 7 sorts by time, by which
                   -- one is found; and all of a row are to be forgotten at one time.
                   coalesce(x.is_delivered AND x.http_status IS NOT NULL AND x.response = '' AND x.error IS NULL
                       AND x.attempt = 1 AND x.resend_id IS NULL AND substr(x.event_id::text, 15, 1) = '7'
                       AND x.started_us BETWEEN now_us - 1800000000 AND now_us + 1800000000, false) AS is_plain
              FROM unnest(subscription_ids, event_ids, event_types, positions, record_attempts.attempts, resend_ids, urls, delivered, http_statuses,
                       responses, errors, durations_us, record_attempts.started_us)
                   WITH ORDINALITY x(subscription_id, event_id, event_type, "position", attempt, resend_id, url, is_delivered, http_status,
                       response, error, duration_us, started_us, number)
              JOIN s USING (subscription_id)
             WHERE s.log = 'all' OR s.log = 'failures' AND NOT x.is_delivered),
        runs AS (
            INSERT INTO @extschema@.delivery_runs (call_id, first, subscription_id, subscription, url, http_status, started_at, first_event, last_event,
                    numbers, event_ids, event_types, positions, durations_us, started_us)
            SELECT call_id, min(x.number), x.subscription_id, x.name, x.url, x.http_status,
                   timestamptz '1970-01-01 00:00:00Z' + max(x.started_us) * interval '1 us',
                   min(x.event_id::text COLLATE "C")::uuid, max(x.event_id::text COLLATE "C")::uuid,
                   array_agg(x.number::integer), array_agg(x.event_id), array_agg(x.event_type), array_agg(x."position"),
                   array_agg(x.duration_us), array_agg(x.started_us)
              FROM x WHERE x.is_plain GROUP BY x.subscription_id, x.name, x.url, x.http_status
            RETURNING cardinality(numbers) AS entries),
        singles AS (
            INSERT INTO @extschema@.delivery_attempts (attempt_id, subscription_id, subscription, event_id, event_type, "position", attempt, trigger,
                    url, outcome, http_status, response, error, duration, started_at) OVERRIDING SYSTEM VALUE
            SELECT call_id + x.number, x.subscription_id, x.name, x.event_id, x.event_type, x."position", x.attempt,
                   CASE WHEN x.resend_id IS NULL THEN 'scheduled' ELSE 'manual' END, x.url,
                   CASE WHEN x.is_delivered THEN 'delivered' ELSE 'failed' END, x.http_status, x.response, x.error,
                   x.duration_us * interval '1 us', timestamptz '1970-01-01 00:00:00Z' + x.started_us * interval '1 us'
              FROM x WHERE NOT x.is_plain
            RETURNING 1 AS entries)
        SELECT coalesce(sum(entries), 0) INTO logged FROM (SELECT entries FROM runs UNION ALL SELECT entries FROM singles) q;
    END IF;

    -- mostly all is well, and was
    IF NOT false = ANY (delivered) AND array_remove(resend_ids, NULL) = '{}'
       AND NOT EXISTS (SELECT FROM @extschema@.endpoints e WHERE e.subscription_id = ANY (subscription_ids))
    THEN
        RETURN logged;
    END IF;
    FOR a IN WITH x AS MATERIALIZED (
                SELECT y.* FROM unnest(subscription_ids, event_ids, event_types, positions, record_attempts.attempts, resend_ids, delivered, rejected,
                        http_statuses, errors, record_attempts.started_us)
                    WITH ORDINALITY y(subscription_id, event_id, event_type, "position", attempt, resend_id, is_delivered, is_rejected, http_status, error, started_us, place))
             SELECT x.* FROM x
              WHERE NOT x.is_delivered OR x.resend_id IS NOT NULL
                 OR EXISTS (SELECT FROM @extschema@.endpoints e WHERE e.subscription_id = x.subscription_id)
                 -- a success after a failure that is among these
                 OR x.subscription_id IN (SELECT f.subscription_id FROM x f WHERE NOT f.is_delivered)
              ORDER BY x.subscription_id, x.place
    LOOP
        IF a.resend_id IS NOT NULL THEN
            DELETE FROM @extschema@.resends r WHERE r.resend_id = a.resend_id;
            IF a.is_delivered THEN
                UPDATE @extschema@.dead_letters d
                   SET state = 'resolved', settled_at = clock_timestamp(), settled_by = current_user, note = 'delivered by resend'
                 WHERE d.subscription_id = a.subscription_id AND d."position" = a."position" AND d.state = 'dead';
            END IF;
        END IF;
        IF a.is_delivered THEN
            DELETE FROM @extschema@.endpoints e WHERE e.subscription_id = a.subscription_id;
        ELSIF a.resend_id IS NULL THEN
            PERFORM @extschema@.endpoint_failed(a.subscription_id, a.event_id, a.event_type, a."position", a.attempt,
                coalesce(a.is_rejected, false), a.http_status, a.error,
                timestamptz '1970-01-01 00:00:00Z' + a.started_us * interval '1 us');
        END IF;
    END LOOP;
    RETURN logged;
END $$;
COMMENT ON FUNCTION @extschema@.record_attempts(bigint[], uuid[], text[], bigint[], integer[], bigint[], text[], boolean[], boolean[], integer[], text[], text[], bigint[], bigint[]) IS
    'Internal: log requests to webhooks and keep the state of their endpoints; one element of each array for each request, in the order of their ends, at most 9999 (TL005). Returns how many were logged.';
