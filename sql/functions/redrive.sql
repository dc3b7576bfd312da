CREATE OR REPLACE FUNCTION @extschema@.redrive(
        ids bigint[] DEFAULT NULL, subscription text DEFAULT NULL, pattern text DEFAULT NULL, reason text DEFAULT NULL,
        since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, tenant_id text DEFAULT NULL,
        max_events integer DEFAULT 10000, rate double precision DEFAULT NULL, dry_run boolean DEFAULT false)
    RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    chosen bigint[] := @extschema@.dead_chosen(ids, subscription, pattern, reason, since, until, tenant_id, max_events);
    able   bigint[]; -- subscriptions that hand events out
    orphan record;
    n      bigint;
BEGIN
    IF NOT coalesce(rate > 0 AND rate <= 1000000, true) THEN
        PERFORM @extschema@.fail('TL005', 'rate is not above 0 and up to 1000000', '{"field": "rate", "limit": 1000000}');
    END IF;
    able := ARRAY(SELECT s.subscription_id FROM @extschema@.subscriptions s WHERE NOT coalesce(s.mode = 'sync' AND s.target LIKE 'sql:%', false));
    IF ids IS NOT NULL THEN
        SELECT d.dead_letter_id, d.subscription AS name, d.subscription_id INTO orphan FROM @extschema@.dead_letters d
         WHERE d.dead_letter_id = ANY (chosen) AND (d.subscription_id = ANY (able)) IS NOT TRUE ORDER BY 1 LIMIT 1;
        IF FOUND THEN
            PERFORM @extschema@.fail('TL001', format(CASE WHEN orphan.subscription_id IS NULL
                    THEN 'dead letter %s has no subscription any more, it was of "%s"'
                    ELSE 'dead letter %s is of subscription "%s", which runs in its publishers'' transactions now' END, orphan.dead_letter_id, orphan.name),
                jsonb_build_object('field', 'ids', 'value', orphan.dead_letter_id), 'Publish its event again, then resolve() it.');
        END IF;
    END IF;
    IF dry_run IS NOT FALSE THEN
        RETURN (SELECT count(*) FROM @extschema@.dead_letters d WHERE d.dead_letter_id = ANY (chosen) AND d.subscription_id = ANY (able));
    END IF;
    -- against a change of slots and unsubscribe() in between
    PERFORM FROM @extschema@.subscriptions s WHERE s.subscription_id IN (
        SELECT d.subscription_id FROM @extschema@.dead_letters d WHERE d.dead_letter_id = ANY (chosen)) ORDER BY s.subscription_id FOR SHARE;
    -- the lock, the look at the state under it and the order of due times
    WITH picked AS MATERIALIZED (
        SELECT d.* FROM @extschema@.dead_letters d
         WHERE d.dead_letter_id = ANY (chosen) AND d.state = 'dead' AND d.subscription_id = ANY (able)
         ORDER BY d.dead_letter_id FOR UPDATE SKIP LOCKED
    ), moved AS (
        -- one that is there already is on its way; not left to ON CONFLICT, which would wait for an ack()
        -- that is about to write the letter we have locked
        INSERT INTO @extschema@.retries (subscription_id, "position", slot, attempt, next_attempt_at, error_message, last_error_at, errors, event)
        SELECT p.subscription_id, p."position",
               @extschema@.slot_of(p.event ->> 'key', p."position", (SELECT count(*) FROM @extschema@.cursors c WHERE c.subscription_id = p.subscription_id)::integer),
               0, clock_timestamp() + CASE WHEN rate IS NULL THEN 0 ELSE (row_number() OVER (ORDER BY p.dead_letter_id) - 1) / greatest(rate, 1e-6) END * interval '1 s',
               p.error_message, p.dead_at, p.errors, p.event
          FROM picked p
         WHERE NOT EXISTS (SELECT FROM @extschema@.retries r WHERE r.subscription_id = p.subscription_id AND r."position" = p."position")
            ON CONFLICT (subscription_id, "position") DO NOTHING
    )
    UPDATE @extschema@.dead_letters d
       SET state = 'redriven', settled_at = clock_timestamp(), settled_by = current_user, note = NULL
      FROM picked p WHERE d.dead_letter_id = p.dead_letter_id;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n > 0 THEN
        PERFORM @extschema@.wake_listeners();
    END IF;
    RETURN n;
END $$;
COMMENT ON FUNCTION @extschema@.redrive(bigint[], text, text, text, timestamptz, timestamptz, text, integer, double precision, boolean) IS
    'Hand dead letters out again, each with all its attempts and beside the order of its key: nothing waits for it. ids, subscription, pattern, reason, since, until, tenant_id: which, at least one; pattern ** is all. max_events: at most so many, oldest first, 1 to 100000. rate: so many a second instead of all at once. dry_run: only count. What was redriven before is passed over, and two at once do each letter once. Works when the log has the event no more. Returns how many. TL001 when an id has no subscription any more, or one that hands nothing out (mode sync with a sql: target), TL002 unknown id or subscription, TL005.';
