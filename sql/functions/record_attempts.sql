-- The results of requests to webhooks, many at a time, by the daemon that made them: the log, the
-- breaker, the end of endpoints that fail for days, and what operators hear of it.
-- Lock order: subscriptions -> endpoints.
CREATE OR REPLACE FUNCTION @extschema@.record_attempts(attempts jsonb) RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    a       record;
    logged  bigint;
BEGIN
    INSERT INTO @extschema@.delivery_attempts (subscription_id, subscription, event_id, event_type, "position", attempt, trigger,
            url, outcome, http_status, response, error, duration, started_at)
        SELECT s.subscription_id, s.name, x.event_id, x.event_type, x."position", x.attempt,
               CASE WHEN x.resend_id IS NULL THEN 'scheduled' ELSE 'manual' END, x.url,
               CASE WHEN x.is_delivered THEN 'delivered' ELSE 'failed' END, x.http_status, x.response, x.error,
               x.duration_us * interval '1 us', to_timestamp(x.started_us / 1e6)
          FROM jsonb_to_recordset(attempts) AS x(subscription_id bigint, event_id uuid, event_type text, "position" bigint, attempt integer,
                   resend_id bigint, url text, is_delivered boolean, http_status integer, response text, error text, duration_us bigint,
                   started_us bigint)
          JOIN @extschema@.subscriptions s ON s.subscription_id = x.subscription_id
         WHERE CASE s.target_options ->> 'log' WHEN 'none' THEN false WHEN 'failures' THEN NOT x.is_delivered ELSE true END;
    GET DIAGNOSTICS logged = ROW_COUNT;

    FOR a IN WITH x AS MATERIALIZED (
                SELECT y.* FROM ROWS FROM (jsonb_to_recordset(attempts) AS (subscription_id bigint, event_id uuid, event_type text, "position" bigint,
                        attempt integer, resend_id bigint, is_delivered boolean, is_rejected boolean, http_status integer, error text))
                    WITH ORDINALITY y(subscription_id, event_id, event_type, "position", attempt, resend_id, is_delivered, is_rejected, http_status, error, place))
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
                coalesce(a.is_rejected, false), a.http_status, a.error);
        END IF;
    END LOOP;
    RETURN logged;
END $$;
COMMENT ON FUNCTION @extschema@.record_attempts(jsonb) IS
    'Internal: log requests to webhooks and keep the state of their endpoints. Returns how many were logged.';
