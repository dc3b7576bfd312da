CREATE OR REPLACE FUNCTION @extschema@.append_topic(topic text, OUT topic_id integer, OUT max_bytes integer)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    has_streams boolean;
BEGIN
    PERFORM @extschema@.topic_id_of(topic);
    BEGIN
        IF has_column_privilege(@extschema@.caller(), format('@extschema@.%I', 'topic_' || topic), 'stream', 'REFERENCES') IS NOT TRUE THEN
            PERFORM @extschema@.fail('42501', format('role "%s" may not append to topic "%s"', @extschema@.caller(), topic),
                jsonb_build_object('field', 'topic', 'value', topic), 'The owner of the schema gives the right with grant_append().');
        END IF;
        -- against drop_topic() until the end of the transaction; store is never dropped
        IF topic <> 'store' THEN
            EXECUTE format('LOCK TABLE ONLY @extschema@.%I IN ROW EXCLUSIVE MODE', 'topic_' || topic);
        END IF;
    EXCEPTION WHEN undefined_table THEN
        NULL; -- dropped meanwhile
    END;
    SELECT t.topic_id, t.max_event_bytes, t.streams INTO topic_id, max_bytes, has_streams FROM @extschema@.topics t WHERE t.name = topic;
    IF NOT FOUND THEN
        PERFORM @extschema@.topic_id_of(topic);
    ELSIF NOT has_streams THEN
        PERFORM @extschema@.fail('0A000', format('topic "%s" has no streams', topic), jsonb_build_object('field', 'topic', 'value', topic),
            'Publish to it, or make a topic with create_topic(streams => true).');
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.append_topic(text) IS
    'Internal: number and size limit of a topic with streams that the role of the session may append to, locked against drop_topic(): TL002, 42501, 0A000.';
