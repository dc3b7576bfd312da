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
    a      record;
    logged bigint;
BEGIN
    WITH s AS MATERIALIZED (
        SELECT y.subscription_id, y.name, coalesce(y.target_options ->> 'log', 'all') AS log
          FROM @extschema@.subscriptions y WHERE y.subscription_id = ANY (subscription_ids))
    INSERT INTO @extschema@.delivery_attempts (subscription_id, subscription, event_id, event_type, "position", attempt, trigger,
            url, outcome, http_status, response, error, duration, started_at)
        SELECT s.subscription_id, s.name, x.event_id, x.event_type, x."position", x.attempt,
               CASE WHEN x.resend_id IS NULL THEN 'scheduled' ELSE 'manual' END, x.url,
               CASE WHEN x.is_delivered THEN 'delivered' ELSE 'failed' END, x.http_status, x.response, x.error,
               x.duration_us * interval '1 us', timestamptz '1970-01-01 00:00:00Z' + x.started_us * interval '1 us'
          FROM unnest(subscription_ids, event_ids, event_types, positions, record_attempts.attempts, resend_ids, urls, delivered, http_statuses,
                   responses, errors, durations_us, record_attempts.started_us)
               AS x(subscription_id, event_id, event_type, "position", attempt, resend_id, url, is_delivered, http_status,
                   response, error, duration_us, started_us)
          JOIN s USING (subscription_id)
         WHERE s.log = 'all' OR s.log = 'failures' AND NOT x.is_delivered;
    GET DIAGNOSTICS logged = ROW_COUNT;

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
    'Internal: log requests to webhooks and keep the state of their endpoints; one element of each array for each request, in the order of their ends. Returns how many were logged.';
