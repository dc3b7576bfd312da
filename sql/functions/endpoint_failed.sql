CREATE OR REPLACE FUNCTION @extschema@.endpoint_failed(
        subscription_id bigint, event_id uuid, event_type text, at bigint, attempt integer, is_rejected boolean, http_status integer, error text,
        started_at timestamptz)
    RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    now      timestamptz := clock_timestamp();
    s        @extschema@.subscriptions;
    e        @extschema@.endpoints;
    most     integer;
    patience interval;
    pause    interval;
    reason   text;
    event    jsonb;
BEGIN
    SELECT x.* INTO s FROM @extschema@.subscriptions x WHERE x.subscription_id = endpoint_failed.subscription_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    event := jsonb_build_object('subscription', s.name, 'target', regexp_replace(s.target, '^(https?://)([^/?#]*@)?([^?#]*).*$', E'\\1\\3'),
        'event_id', event_id, 'event_type', event_type, 'position', at, 'attempt', attempt, 'http_status', http_status);
    IF is_rejected OR attempt >= s.max_attempts AND s.on_failure <> 'stop' THEN
        PERFORM @extschema@.operational_event(s, 'trunkline.delivery.exhausted', event_type, event);
    END IF;
    -- what was in flight when it was paused or got another target: that starts anew
    IF NOT s.active OR endpoint_failed.started_at < s.updated_at THEN
        RETURN;
    END IF;
    most := coalesce((s.target_options ->> 'breaker_failures')::integer, 10);
    -- NULL: never
    patience := CASE WHEN s.target_options ->> 'disable_after' = 'never' THEN NULL
        ELSE coalesce(@extschema@.interval_of(s.target_options ->> 'disable_after'), interval '120 h') END;
    INSERT INTO @extschema@.endpoints AS x (subscription_id) VALUES (s.subscription_id) ON CONFLICT DO NOTHING;
    SELECT x.* INTO STRICT e FROM @extschema@.endpoints x WHERE x.subscription_id = s.subscription_id FOR UPDATE;
    IF e.last_failure_at < now - 2 * patience THEN
        e.failures := 0;
        e.opened := 0;
        e.failing_since := NULL;
        e.is_announced := false;
    END IF;
    e.failures := e.failures + 1;
    e.failing_since := coalesce(e.failing_since, now);
    e.last_failure_at := now;
    e.last_error := left(error, 2000);
    e.disabled_at := NULL;
    -- while it is open only what was in flight comes in, and that makes no pause longer
    IF most > 0 AND e.failures >= most AND (e.open_until IS NULL OR e.open_until <= now) THEN
        pause := least(coalesce(@extschema@.interval_of(s.target_options ->> 'breaker_cap'), interval '15 min'),
            coalesce(@extschema@.interval_of(s.target_options ->> 'breaker_pause'), interval '30 s') * power(2, least(e.opened, 20)));
        e.opened := least(e.opened, 1000) + 1;
        e.open_until := now + pause * (0.9 + 0.2 * random());
        e.prober := NULL;
        e.probe_until := NULL;
    END IF;
    event := event || jsonb_build_object('failures', e.failures, 'failing_since', e.failing_since);
    IF attempt >= 4 AND NOT e.is_announced THEN
        e.is_announced := true;
        PERFORM @extschema@.operational_event(s, 'trunkline.endpoint.failing', event_type, event);
    END IF;
    IF http_status = 410 OR now - e.failing_since >= patience THEN
        reason := CASE http_status WHEN 410 THEN 'the endpoint answered 410 Gone'
            ELSE format('the endpoint has failed since %s', to_char(e.failing_since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) END;
        UPDATE @extschema@.subscriptions x SET active = false, paused_at = now, pause_reason = reason, updated_at = now
         WHERE x.subscription_id = s.subscription_id;
        PERFORM @extschema@.operational_event(s, 'trunkline.endpoint.disabled', event_type, event || jsonb_build_object('reason', reason));
        DELETE FROM @extschema@.endpoints x WHERE x.subscription_id = s.subscription_id;
        INSERT INTO @extschema@.endpoints (subscription_id, last_failure_at, last_error, disabled_at)
            VALUES (s.subscription_id, now, e.last_error, now);
        RETURN;
    END IF;
    UPDATE @extschema@.endpoints x SET failures = e.failures, failing_since = e.failing_since, last_failure_at = e.last_failure_at,
           last_error = e.last_error, opened = e.opened, open_until = e.open_until, prober = e.prober, probe_until = e.probe_until,
           is_announced = e.is_announced, disabled_at = e.disabled_at
     WHERE x.subscription_id = s.subscription_id;
END $$;
COMMENT ON FUNCTION @extschema@.endpoint_failed(bigint, uuid, text, bigint, integer, boolean, integer, text, timestamptz) IS
    'Internal: a scheduled request to a webhook has failed: count it, open the breaker, announce, disable.';
