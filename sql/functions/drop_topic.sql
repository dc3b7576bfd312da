CREATE OR REPLACE FUNCTION @extschema@.drop_topic(name text, force boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    number  integer := @extschema@.topic_id_of(drop_topic.name);
    blocker text;
    waiting bigint;
    patience CONSTANT text := current_setting('lock_timeout');
    give_up  CONSTANT timestamptz := clock_timestamp() + nullif(patience::interval, '0');
BEGIN
    IF drop_topic.name IN ('bus', 'store') THEN
        PERFORM @extschema@.fail('TL005', format('topic "%s" is built in', drop_topic.name), '{"field": "name"}');
    END IF;
    LOCK TABLE @extschema@.topics IN SHARE ROW EXCLUSIVE MODE; -- first, as create_topic() does
    SELECT s.name INTO blocker FROM @extschema@.subscriptions s WHERE s.topic_id = number ORDER BY s.name LIMIT 1;
    IF blocker IS NOT NULL AND force IS NOT TRUE THEN
        PERFORM @extschema@.fail('TL001', format('topic "%s" has subscriptions, one is "%s"', drop_topic.name, blocker),
            jsonb_build_object('field', 'name', 'subscription', blocker), 'Unsubscribe first, or pass force => true.');
    END IF;
    SELECT x.name INTO blocker FROM @extschema@.schedules x WHERE x.topic_id = number ORDER BY x.name LIMIT 1;
    IF blocker IS NOT NULL AND force IS NOT TRUE THEN
        PERFORM @extschema@.fail('TL001', format('topic "%s" has schedules, one is "%s"', drop_topic.name, blocker),
            jsonb_build_object('field', 'name', 'schedule', blocker), 'Remove it with unschedule() first, or pass force => true.');
    END IF;
    DELETE FROM @extschema@.schedules x WHERE x.topic_id = number;
    -- in the order of locks, so that no claim or ack is caught in between
    PERFORM @extschema@.unsubscribe(s.name, true) FROM @extschema@.subscriptions s WHERE s.topic_id = number ORDER BY s.subscription_id;
    PERFORM pg_advisory_xact_lock(@extschema@.lock_class(), 5); -- a mover has rows of ours and wants the topic
    -- Who reads has the sequence of positions and then wants the table, who publishes the other way round. So there
    -- is no order of locks that fits both: step back before anybody calls it a deadlock, and let them pass.
    LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '300ms', true);
            -- DROP takes the parent first, which who reads the topic wants second
            EXECUTE format('LOCK TABLE ONLY @extschema@.%I IN ACCESS EXCLUSIVE MODE', 'topic_' || drop_topic.name);
            EXECUTE format('DROP TABLE @extschema@.%I', 'topic_' || drop_topic.name);
            PERFORM set_config('lock_timeout', patience, true);
            EXIT;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            IF clock_timestamp() > give_up THEN
                RAISE;
            END IF;
            PERFORM pg_sleep(0.02);
        END;
    END LOOP;
    -- now that no transaction that publishes to it is left
    DELETE FROM @extschema@.scheduled s WHERE s.topic_id = number;
    GET DIAGNOSTICS waiting = ROW_COUNT;
    IF waiting > 0 AND force IS NOT TRUE THEN
        PERFORM @extschema@.fail('TL001', format('topic "%s" has %s delayed events', drop_topic.name, waiting),
            jsonb_build_object('field', 'name', 'scheduled', waiting), 'Wait for them or cancel() them first, or pass force => true.');
    END IF;
    DELETE FROM @extschema@.streams s WHERE s.topic_id = number;
    DELETE FROM @extschema@.dedup d WHERE d.topic_id = number;
    DELETE FROM @extschema@.unlogged_marks m WHERE m.topic_id = number;
    DELETE FROM @extschema@.topics t WHERE t.topic_id = number;
    PERFORM @extschema@.limit_data();
END $$;
COMMENT ON FUNCTION @extschema@.drop_topic(text, boolean) IS
    'Drop a topic with its events. Refused for bus and store (TL005), and while it has subscriptions, schedules or delayed events (TL001) unless force, which drops those too; dead letters stay.';
