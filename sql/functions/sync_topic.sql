-- Keeps the trigger of a topic in step with its subscriptions. Making it excludes publishers for a
-- moment, dropping it readers too, so both wait for their lock in short turns: a turn that gets
-- nothing has held others up for 50 ms at most. A trigger too much does no harm, it finds nothing to
-- call: maintain() drops it later. One too few would lose events, so then the caller fails.
CREATE OR REPLACE FUNCTION @extschema@.sync_topic(topic_number integer, is_cut boolean DEFAULT false) RETURNS text
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '50ms' AS $$
DECLARE
    topic   text;
    target  text;
    is_here boolean;
    wanted  boolean;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        PERFORM @extschema@.fail('TL005', 'subscriptions of mode sync are changed in READ COMMITTED only',
            '{"field": "transaction_isolation"}');
    END IF;
    FOR turn IN 1 .. 40 LOOP
        BEGIN
            -- one at a time, from the look at the subscriptions to the end of the transaction
            SELECT t.name INTO STRICT topic FROM @extschema@.topics t WHERE t.topic_id = topic_number FOR NO KEY UPDATE;
            target := 'topic_' || topic;
            is_here := EXISTS (SELECT FROM pg_trigger t
                WHERE t.tgrelid = ('@extschema@.' || quote_ident(target))::regclass AND t.tgname = 'sync');
            wanted := EXISTS (SELECT FROM @extschema@.subscriptions s
                WHERE s.topic_id = topic_number AND s.active AND s.mode = 'sync' AND s.target LIKE 'sql:%');
            IF is_cut OR wanted AND NOT is_here THEN
                EXECUTE format('LOCK TABLE @extschema@.%I IN SHARE ROW EXCLUSIVE MODE', target);
            END IF;
            IF wanted AND NOT is_here THEN
                EXECUTE format('CREATE TRIGGER sync AFTER INSERT ON @extschema@.%I REFERENCING NEW TABLE AS published
                    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.run_sync(%s)', target, topic_number);
                EXECUTE format('COMMENT ON TRIGGER sync ON @extschema@.%I IS %L', target,
                    'Calls the functions of sync subscriptions; there while one is active.');
                RETURN 'made';
            END IF;
            EXIT;
        EXCEPTION WHEN lock_not_available THEN
            IF turn = 40 THEN
                RAISE EXCEPTION USING ERRCODE = 'lock_not_available',
                    MESSAGE = format('topic "%s" is busy: no moment without a transaction that publishes to it', topic),
                    DETAIL = jsonb_build_object('topic', topic)::text,
                    HINT = 'Try again; horizon_holders shows who publishes for long.';
            END IF;
            PERFORM pg_sleep(0.02 + random() * 0.1);
        END;
    END LOOP;
    IF is_here AND NOT wanted THEN
        BEGIN
            EXECUTE format('DROP TRIGGER sync ON @extschema@.%I', target);
            RETURN 'dropped';
        EXCEPTION WHEN lock_not_available OR object_in_use OR deadlock_detected THEN
            RETURN 'held';
        END;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION @extschema@.sync_topic(integer, boolean) IS
    'Internal: make or drop the trigger of a topic that calls the functions of its sync subscriptions: made, dropped, held (to be dropped by maintain()) or NULL. is_cut: also wait until nobody publishes, and keep publishers out for the rest of the transaction. 55P03 when the topic is too busy to make it.';
