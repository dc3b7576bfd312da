CREATE OR REPLACE FUNCTION @extschema@.record_failures(
        s @extschema@.subscriptions, topic text, l @extschema@.leases, upto bigint, failures jsonb)
    RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    f        record;
    r        @extschema@.retries;
    attempt  integer;
    history  jsonb;
    is_mine  boolean;
    is_there boolean;
    previous bigint;
BEGIN
    IF jsonb_typeof(failures) <> 'array' OR jsonb_path_exists(failures,
        '$[*] ? (@.type() != "object" || !(exists(@.position)) || @.position.type() != "number" || @.position != @.position.floor() || @.position > 9e18
                 || exists(@.wish_us ? (@.type() != "number" || @ != @.floor() || @ < 0 || @ > 9e18))
                 || exists(@.floor_us ? (@.type() != "number" || @ != @.floor() || @ < 0 || @ > 9e18))
                 || exists(@.retry_after_us ? (@.type() != "number" || @ != @.floor() || @ < 0 || @ > 9e18))
                 || exists(@.verdict ? (@ != "retry" && @ != "fail" && @ != "skip")))', silent => true)
    THEN
        PERFORM @extschema@.fail('TL005', 'failures is not an array of objects with position, error, verdict (retry, fail or skip), retry_after_us',
            '{"field": "failures"}');
    END IF;
    FOR f IN SELECT x."position", coalesce(x.error, '') AS error, coalesce(x.verdict, 'retry') AS verdict, x.retry_after_us, x.wish_us, x.floor_us
               FROM jsonb_to_recordset(failures) AS x("position" bigint, error text, verdict text, retry_after_us bigint, wish_us bigint, floor_us bigint)
              ORDER BY 1
    LOOP
        SELECT * INTO r FROM @extschema@.retries x WHERE x.token = l.token AND x."position" = f."position";
        is_mine := FOUND;
        attempt := CASE WHEN is_mine THEN r.attempt ELSE l.attempt END;
        is_there := is_mine;
        IF NOT is_mine AND f."position" > l.after AND f."position" <= l.upto THEN
            EXECUTE format('SELECT EXISTS (%s), EXISTS (SELECT FROM @extschema@.%I e WHERE e."position" = $2)',
                    @extschema@.range_query(topic, s, 1, '1', ''), 'topic_' || topic)
                INTO is_mine, is_there
                USING f."position" - 1, f."position", @extschema@.pattern_regex(s.pattern), s.tenant_id, s.filter, s.filter_path;
        END IF;
        IF NOT is_there OR f."position" > upto OR f."position" = previous THEN
            PERFORM @extschema@.fail('TL005', format('position %s is not among the events to settle, or twice', f."position"),
                jsonb_build_object('field', 'failures', 'position', f."position"));
        END IF;
        previous := f."position";
        -- not is_mine: the subscription has changed since the claim and does not want it any more
        CONTINUE WHEN f.verdict = 'skip' OR NOT is_mine;
        history := CASE WHEN jsonb_array_length(coalesce(r.errors, '[]')) >= 20 THEN r.errors - 0 ELSE coalesce(r.errors, '[]') END
            || jsonb_build_array(jsonb_build_object('attempt', attempt, 'at', clock_timestamp(), 'error', left(f.error, 2000)));
        IF f.verdict = 'fail' OR attempt >= s.max_attempts THEN
            PERFORM @extschema@.bury(s, topic, f."position",
                CASE f.verdict WHEN 'fail' THEN 'rejected' ELSE 'max_attempts' END, attempt, f.error, history);
        ELSE
            INSERT INTO @extschema@.retries AS x (subscription_id, "position", slot, attempt, next_attempt_at, error_message, last_error_at, errors)
                VALUES (s.subscription_id, f."position", l.slot, attempt,
                    clock_timestamp() + CASE WHEN f.retry_after_us IS NOT NULL
                        THEN least(f.retry_after_us, 86400000000 * 365) * interval '1 us'
                        ELSE greatest(least(coalesce(f.floor_us, 0), 86400000000 * 365) * interval '1 us',
                            CASE WHEN f.wish_us IS NULL THEN @extschema@.backoff(s.retry_delay, s.retry_cap, attempt)
                            ELSE greatest(least(f.wish_us * interval '1 us', 2 * least(s.retry_delay * power(2, least(attempt - 1, 40)), s.retry_cap)),
                                least(s.retry_delay * power(2, least(attempt - 1, 40)), s.retry_cap)) END) END,
                    left(f.error, 2000), clock_timestamp(), history)
                ON CONFLICT (subscription_id, "position") DO UPDATE
                   SET token = NULL, solo = false, next_attempt_at = excluded.next_attempt_at,
                       error_message = excluded.error_message, last_error_at = excluded.last_error_at, errors = excluded.errors;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION @extschema@.record_failures(@extschema@.subscriptions, text, @extschema@.leases, bigint, jsonb) IS
    'Internal: write the failures of an ack() to retries and dead_letters. TL005 for a position that the lease does not hold.';
