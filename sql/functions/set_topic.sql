CREATE OR REPLACE FUNCTION @extschema@.set_topic(
        name text, rotation text, retention interval, max_event_bytes integer, dedup_window interval)
    RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    old @extschema@.topics;
BEGIN
    PERFORM @extschema@.check_topic(set_topic.name, 'logged', set_topic.rotation, set_topic.retention,
        set_topic.max_event_bytes, set_topic.dedup_window);
    PERFORM @extschema@.topic_id_of(set_topic.name);
    LOCK TABLE @extschema@.topics IN SHARE ROW EXCLUSIVE MODE; -- first, as create_topic() does
    SELECT t.* INTO old FROM @extschema@.topics t WHERE t.name = set_topic.name FOR UPDATE;
    UPDATE @extschema@.topics t
       SET rotation = set_topic.rotation, retention = set_topic.retention,
           max_event_bytes = set_topic.max_event_bytes, dedup_window = set_topic.dedup_window
     WHERE t.topic_id = old.topic_id;
    IF old.max_event_bytes <> set_topic.max_event_bytes THEN
        PERFORM @extschema@.limit_data();
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.set_topic(text, text, interval, integer, interval) IS
    'Change a topic; every argument as in create_topic(), NULL retention and dedup_window mean for ever. Durability is fixed. A new max_event_bytes holds for events to come and waits for running publishers; topics with less than the largest limit of all pay for theirs with a few percent of the speed of a publish, so changing the largest waits for publishers of the others too. TL002, TL005.';
