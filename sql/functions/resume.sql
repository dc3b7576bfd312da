CREATE OR REPLACE FUNCTION @extschema@.resume(name text, skip boolean DEFAULT false) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s     @extschema@.subscriptions := @extschema@.lock_subscription(resume.name);
    topic text;
    heads bigint[];
    r     @extschema@.retries;
BEGIN
    -- no claim is under way, which may put more events behind it
    PERFORM @extschema@.lock_cursors(s.subscription_id);
    SELECT t.name INTO STRICT topic FROM @extschema@.topics t WHERE t.topic_id = s.topic_id;
    -- what stopped it: first of its key and waiting for nobody but us
    SELECT array_agg(q."position" ORDER BY q."position") INTO heads FROM (
        SELECT DISTINCT ON (x.key) x."position", x.token, x.next_attempt_at FROM @extschema@.retries x
         WHERE x.subscription_id = s.subscription_id AND x.key IS NOT NULL
         ORDER BY x.key, x."position") q
     WHERE q.token IS NULL AND q.next_attempt_at = 'infinity';
    heads := heads || ARRAY(SELECT x."position" FROM @extschema@.retries x -- no key: stopped it, and nothing waits for it
        WHERE x.subscription_id = s.subscription_id AND x.key IS NULL AND x.token IS NULL AND x.next_attempt_at = 'infinity');
    IF skip AND cardinality(heads) = 0 THEN
        PERFORM @extschema@.fail('TL001', format('subscription "%s" was not stopped by an event', s.name),
            '{"field": "skip"}', 'Resume it without skip.');
    END IF;
    FOR r IN SELECT x.* FROM @extschema@.retries x
              WHERE x.subscription_id = s.subscription_id AND x."position" = ANY (heads) ORDER BY x."position" FOR UPDATE
    LOOP
        IF skip THEN
            PERFORM @extschema@.bury(s, topic, r."position", 'skipped', r.attempt, r.error_message, r.errors);
            DELETE FROM @extschema@.retries x WHERE x.subscription_id = r.subscription_id AND x."position" = r."position";
            UPDATE @extschema@.deliveries d SET state = 'failed', completed_at = clock_timestamp()
             WHERE d.subscription_id = r.subscription_id AND d."position" = r."position" AND d.completed_at IS NULL;
            PERFORM @extschema@.promote_keys(s.subscription_id, ARRAY[r.key]);
        ELSE
            UPDATE @extschema@.retries x SET attempt = 0, delay = interval '0', next_attempt_at = clock_timestamp()
             WHERE x.subscription_id = r.subscription_id AND x."position" = r."position";
        END IF;
    END LOOP;
    UPDATE @extschema@.subscriptions x
       SET active = true, paused_at = NULL, pause_reason = NULL, drain_at = NULL, updated_at = clock_timestamp()
     WHERE x.subscription_id = s.subscription_id AND NOT (x.active AND x.drain_at IS NULL);
    DELETE FROM @extschema@.endpoints e WHERE e.subscription_id = s.subscription_id; -- a webhook starts anew
    PERFORM @extschema@.wake_listeners();
    RETURN NOT s.active OR s.drain_at IS NOT NULL;
END $$;
COMMENT ON FUNCTION @extschema@.resume(text, boolean) IS
    'Go on where a paused subscription is; a drain ends. One that an event stopped (on_failure stop) tries that event again, with all its attempts; with skip it becomes a dead letter with reason skipped instead. What a webhook has failed is forgotten, and its breaker closed, whether it was paused or not. Returns whether it was paused or draining. TL001 skip without such an event, TL002.';
