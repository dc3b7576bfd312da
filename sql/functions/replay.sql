CREATE OR REPLACE FUNCTION @extschema@.replay(
        subscription text, start_at text, end_at text DEFAULT 'end', rate double precision DEFAULT NULL,
        dry_run boolean DEFAULT false)
    RETURNS TABLE (replay_id bigint, events bigint) LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    -- the log is read along its primary key, whatever the statistics of a young leaf say
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
    -- filter_path: who claims, takes over and settles has to see the same events
    SET TimeZone = 'UTC' AS $$
#variable_conflict use_column
DECLARE
    s      @extschema@.subscriptions := @extschema@.lock_subscription(replay.subscription);
    topic  text;
    first  bigint;
    last   bigint;
    c      @extschema@.cursors;
    number bigint;
BEGIN
    SELECT t.name INTO STRICT topic FROM @extschema@.topics t WHERE t.topic_id = s.topic_id;
    first := @extschema@.start_cursor(topic, replay.start_at);
    last := @extschema@.start_cursor(topic, replay.end_at, 'end_at');
    IF first > last THEN
        PERFORM @extschema@.fail('TL005', format('end_at is before start_at: position %s, not after %s', last, first), '{"field": "end_at"}');
    ELSIF NOT coalesce(rate > 0 AND rate <= 1000000, true) THEN
        PERFORM @extschema@.fail('TL005', 'rate is not above 0 and up to 1000000', '{"field": "rate", "limit": 1000000}');
    ELSIF s.mode = 'sync' AND s.target ~ '^sql:' THEN
        PERFORM @extschema@.fail('TL005', format('subscription "%s" runs in its publishers'' transactions, there is nothing to hand out again', s.name),
            '{"field": "subscription"}');
    ELSIF s.resize_at IS NOT NULL THEN
        PERFORM @extschema@.fail('TL001', format('subscription "%s" has a change of slots under way', s.name),
            '{"field": "subscription"}', 'Wait for its end.');
    END IF;
    events := 0;
    IF dry_run IS FALSE THEN
        PERFORM @extschema@.lock_cursors(s.subscription_id);
    END IF;
    SELECT count(*) INTO s.slots FROM @extschema@.cursors x WHERE x.subscription_id = s.subscription_id;
    FOR c IN SELECT x.* FROM @extschema@.cursors x WHERE x.subscription_id = s.subscription_id ORDER BY x.slot FOR UPDATE LOOP
        -- what is behind the cursor is still to come anyway
        CONTINUE WHEN first >= least(last, c.cursor);
        EXECUTE @extschema@.range_query(topic, s, c.slot, false, 1, 'count(*)', '')
            INTO number
            USING first, least(last, c.cursor), @extschema@.type_operand(s.pattern), s.tenant_id, s.filter, s.filter_path;
        events := events + number;
        CONTINUE WHEN dry_run IS NOT FALSE OR number = 0;
        replay_id := coalesce(replay_id, nextval('@extschema@.replay_ids'));
        INSERT INTO @extschema@.replays (replay_id, subscription_id, slot, cursor, upto, rate)
            VALUES (replay.replay_id, s.subscription_id, c.slot, first, least(last, c.cursor), replay.rate / s.slots);
    END LOOP;
    IF replay_id IS NOT NULL THEN
        PERFORM @extschema@.wake_listeners();
    END IF;
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION @extschema@.replay(text, text, text, double precision, boolean) IS
    'Hand events out once more, beside the live ones, which go on where they are. start_at: end, beginning, a position (events after it) or a time; end_at the same: up to and including that position, before that time. Events that the subscription has not got to yet are not in it: they come anyway. rate: events a second, NULL no limit. dry_run: only count. Returns the number of the replay for cancel_replay(), NULL if there is nothing to do, and of the events that match. TL001 during a change of slots, TL002, TL005.';
