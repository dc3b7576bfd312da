CREATE OR REPLACE FUNCTION @extschema@.record_failures(
        s @extschema@.subscriptions, topic text, l @extschema@.leases, upto bigint, failures jsonb,
        OUT deferred text[], OUT stopped text[])
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    f        record;
    r        @extschema@.retries;
    is_mine  boolean;
    is_there boolean;
    is_first boolean;
    previous bigint;
    pause    interval;
    now_at   timestamptz := clock_timestamp();
BEGIN
    IF jsonb_typeof(failures) <> 'array' OR jsonb_path_exists(failures,
        '$[*] ? (@.type() != "object" || !(exists(@.position)) || @.position.type() != "number" || @.position != @.position.floor() || @.position < 0 || @.position > 9e18
                 || exists(@.retry_after_us ? (@.type() != "number" || @ != @.floor() || @ < 0 || @ > 9e18))
                 || exists(@.wish_us ? (@.type() != "number" || @ != @.floor() || @ < 0 || @ > 9e18))
                 || exists(@.floor_us ? (@.type() != "number" || @ != @.floor() || @ < 0 || @ > 9e18))
                 || exists(@.verdict ? (@ != "retry" && @ != "fail" && @ != "skip" && @ != "defer" && @ != "expired")))', silent => true)
    THEN
        PERFORM @extschema@.fail('TL005', 'failures is not an array of objects with position, error, verdict (retry, fail, skip, defer or expired), retry_after_us, wish_us, floor_us',
            '{"field": "failures"}');
    END IF;
    -- numeric: 1.0 is a whole number, too
    FOR f IN SELECT x."position"::bigint, coalesce(x.error, '') AS error, coalesce(x.verdict, 'retry') AS verdict,
                    CASE WHEN x.retry_after_us IS NOT NULL THEN least(x.retry_after_us, 86400000000 * 365)::bigint * interval '1 us' END AS exact,
                    CASE WHEN x.wish_us IS NOT NULL THEN least(x.wish_us, 86400000000 * 365)::bigint * interval '1 us' END AS wish,
                    CASE WHEN x.floor_us IS NOT NULL THEN least(x.floor_us, 86400000000 * 365)::bigint * interval '1 us' END AS floor
               FROM jsonb_to_recordset(failures) AS x("position" numeric, error text, verdict text, retry_after_us numeric, wish_us numeric, floor_us numeric)
              ORDER BY 1
    LOOP
        SELECT * INTO r FROM @extschema@.retries x WHERE x.token = l.token AND x."position" = f."position";
        is_mine := FOUND;
        is_there := is_mine;
        IF NOT is_mine AND f."position" > l.after AND f."position" <= l.upto THEN
            EXECUTE format('SELECT true, EXISTS (%s), e.key FROM @extschema@.%I e WHERE e."position" = $2',
                    @extschema@.range_query(topic, s, l.slot, false, 1, '1', ''), 'topic_' || topic)
                INTO is_there, is_mine, r.key
                USING f."position" - 1, f."position", @extschema@.type_operand(s.pattern), s.tenant_id, s.filter, s.filter_path;
            is_there := is_there AND NOT (l.has_holes AND (
                EXISTS (SELECT FROM @extschema@.retries x WHERE x.subscription_id = s.subscription_id AND x."position" = f."position")
                OR EXISTS (SELECT FROM @extschema@.dead_letters d
                            WHERE d.subscription_id = s.subscription_id AND d."position" = f."position" AND d.reason = 'expired')));
            r.subscription_id := s.subscription_id;
            r."position" := f."position";
            r.slot := l.slot;
            r.attempt := l.attempt;
            r.errors := '[]';
            r.key := @extschema@.order_key(s, r.key);
            r.delay := interval '0';
            r.replay_id := l.replay_id;
        END IF;
        IF is_there IS NOT TRUE OR f."position" > upto OR f."position" = previous THEN
            PERFORM @extschema@.fail('TL005', format('position %s is not among the events to settle, or twice', f."position"),
                jsonb_build_object('field', 'failures', 'position', f."position"));
        END IF;
        previous := f."position";
        is_first := false;
        -- not is_mine: the subscription has changed since the claim and does not want it any more
        CONTINUE WHEN f.verdict = 'skip' OR NOT is_mine;
        IF f.verdict = 'defer' THEN
            INSERT INTO @extschema@.retries AS x (subscription_id, "position", slot, attempt, next_attempt_at, error_message, last_error_at, errors, key, replay_id)
                VALUES (r.subscription_id, r."position", r.slot, r.attempt - 1,
                    CASE WHEN r.key IS NULL THEN clock_timestamp() ELSE 'infinity' END, '', NULL, '[]', r.key, r.replay_id)
                ON CONFLICT (subscription_id, "position") DO UPDATE
                   SET token = NULL, attempt = excluded.attempt, next_attempt_at = excluded.next_attempt_at
                 WHERE x.token IS NULL OR x.token = l.token;
            IF r.key IS NOT NULL THEN
                deferred := deferred || r.key;
            END IF;
            CONTINUE;
        ELSIF f.verdict = 'expired' THEN
            r.attempt := r.attempt - 1;
            r.error_message := left(coalesce(nullif(f.error, ''), r.error_message, ''), 2000);
            PERFORM @extschema@.give_up(s, topic, r, 'expired');
            is_first := r.key IS NOT NULL AND r.token IS NOT NULL;
        ELSE
            r.error_message := left(f.error, 2000);
            r.errors := CASE WHEN jsonb_array_length(r.errors) >= 20 THEN r.errors - 0 ELSE r.errors END
                || jsonb_build_array(jsonb_build_object('attempt', r.attempt, 'at', clock_timestamp(), 'error', r.error_message));
            IF f.verdict = 'retry' AND r.attempt < s.max_attempts THEN
                pause := @extschema@.backoff(s, r.attempt, r.delay);
                IF f.wish IS NOT NULL THEN
                    pause := greatest(least(f.wish, 2 * @extschema@.policy_delay(s, r.attempt)), @extschema@.policy_delay(s, r.attempt));
                END IF;
                INSERT INTO @extschema@.retries AS x (subscription_id, "position", slot, attempt, next_attempt_at, error_message, last_error_at, errors, key, delay, replay_id)
                    VALUES (r.subscription_id, r."position", r.slot, r.attempt, clock_timestamp() + greatest(coalesce(f.exact, pause), f.floor),
                        r.error_message, clock_timestamp(), r.errors, r.key, CASE WHEN f.exact IS NULL THEN pause ELSE r.delay END, r.replay_id)
                    ON CONFLICT (subscription_id, "position") DO UPDATE
                       SET token = NULL, solo = false, next_attempt_at = excluded.next_attempt_at, delay = excluded.delay,
                           error_message = excluded.error_message, last_error_at = excluded.last_error_at, errors = excluded.errors
                     -- of a replay: the live one may be out as well
                     WHERE x.token IS NULL OR x.token = l.token;
            ELSIF @extschema@.give_up(s, topic, r, CASE f.verdict WHEN 'fail' THEN 'rejected' ELSE 'max_attempts' END) THEN
                stopped := stopped || coalesce(r.key, '');
            ELSE
                is_first := r.key IS NOT NULL AND r.token IS NOT NULL;
            END IF;
        END IF;
        IF is_first THEN
            deferred := deferred || r.key; -- the next one is first now
        ELSIF r.key IS NOT NULL AND f.verdict <> 'expired' THEN
            -- those whose turn it was wait again
            UPDATE @extschema@.retries x SET next_attempt_at = 'infinity'
             WHERE x.subscription_id = s.subscription_id AND x.key = r.key AND x."position" > r."position"
               AND x.token IS NULL AND x.next_attempt_at <= now_at;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION @extschema@.record_failures(@extschema@.subscriptions, text, @extschema@.leases, bigint, jsonb) IS
    'Internal: write the failures of an ack() to retries and dead_letters. Returns the keys of which another event may be first now, and those that an event has stopped. TL005 for a position that the lease does not hold.';
