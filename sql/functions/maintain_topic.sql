CREATE OR REPLACE FUNCTION @extschema@.maintain_topic(t @extschema@.topics) RETURNS TABLE (action text, detail text)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seq      regclass := ('@extschema@.position_' || t.name)::regclass;
    hidden   boolean := @extschema@.has_unregistered_writers(t.name); -- before the horizon
    h        bigint := @extschema@.horizon(t.name);
    last_pos bigint := pg_sequence_last_value(seq);
    current  bigint := last_pos >> 30;
    opened   timestamptz;
    n        bigint;
BEGIN
    IF t.durability = 'unlogged' AND NOT EXISTS (SELECT FROM @extschema@.unlogged_marks m WHERE m.topic_id = t.topic_id) THEN
        DELETE FROM @extschema@.leases l USING @extschema@.subscriptions s
         WHERE s.subscription_id = l.subscription_id AND s.topic_id = t.topic_id;
        DELETE FROM @extschema@.retries r USING @extschema@.subscriptions s
         WHERE s.subscription_id = r.subscription_id AND s.topic_id = t.topic_id;
        UPDATE @extschema@.topics x SET reset_at = clock_timestamp() WHERE x.topic_id = t.topic_id;
        INSERT INTO @extschema@.unlogged_marks (topic_id) VALUES (t.topic_id);
        RETURN QUERY SELECT 'reset', 'a crash of the server emptied this unlogged topic';
    END IF;

    -- Rotation is a jump of the sequence to the next leaf, and only once the horizon is in the current
    -- one: so a position in flight is never more than two leaves behind. Not while a writer may have
    -- read the last value and not registered it, for it could fall behind further than keys can tell
    -- (models/leader.pml). Not within the last million positions, where publishers may cross over by
    -- themselves while we look.
    IF t.rotation <> 'none' AND NOT hidden AND h >> 30 = current AND last_pos & 1073741823 < 1073741823 - 1048576
       AND EXISTS (SELECT FROM @extschema@.leaves l WHERE l.topic_id = t.topic_id AND l.leaf = current + 1)
    THEN
        EXECUTE format('SELECT e.created_at FROM @extschema@.%I e ORDER BY e."position" LIMIT 1', format('leaf_%s_%s', t.name, current))
            INTO opened;
        IF date_trunc(t.rotation, opened AT TIME ZONE 'UTC') < date_trunc(t.rotation, clock_timestamp() AT TIME ZONE 'UTC') THEN
            PERFORM setval(seq, (current + 1) << 30);
            current := current + 1;
            RETURN QUERY SELECT 'rotated', format('to leaf %s', current);
        END IF;
    END IF;

    -- Two ahead, but never more than two beyond the horizon: the register decodes 32 bits, which are four
    -- leaves, and publishers that find no leaf draw numbers all the same.
    FOR n IN current .. least(current, h >> 30) + 2 LOOP
        IF @extschema@.add_leaf(t.name, n) THEN
            RETURN QUERY SELECT 'made', format('leaf %s', n);
        END IF;
    END LOOP;

    IF EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = ('@extschema@.' || quote_ident('topic_' || t.name))::regclass AND g.tgname = 'sync')
       AND NOT EXISTS (SELECT FROM @extschema@.subscriptions s
                        WHERE s.topic_id = t.topic_id AND s.active AND s.mode = 'sync' AND s.target LIKE 'sql:%')
    THEN
        RETURN QUERY SELECT @extschema@.sync_topic(t.topic_id), 'trigger of sync subscriptions that are gone';
    END IF;

    IF t.dedup_window IS NOT NULL THEN
        DELETE FROM @extschema@.dedup d WHERE d.topic_id = t.topic_id AND d.id IN (
            SELECT x.id FROM @extschema@.dedup x
             WHERE x.topic_id = t.topic_id AND x.scheduled_id IS NULL AND x.created_at < clock_timestamp() - t.dedup_window
             ORDER BY x.created_at LIMIT 10000);
        GET DIAGNOSTICS n = ROW_COUNT;
        IF n > 0 THEN
            RETURN QUERY SELECT 'forgot', format('%s ids older than %s', n, t.dedup_window);
        END IF;
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.maintain_topic(@extschema@.topics) IS 'Internal: maintain() for one topic, but for dropping leaves.';
