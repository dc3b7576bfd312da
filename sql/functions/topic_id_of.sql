CREATE OR REPLACE FUNCTION @extschema@.topic_id_of(topic text) RETURNS integer LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_id integer;
BEGIN
    SELECT t.topic_id INTO found_id FROM @extschema@.topics t WHERE t.name = topic;
    IF found_id IS NULL THEN
        PERFORM @extschema@.fail('TL002', format('topic "%s" does not exist', left(topic, 100)),
            jsonb_build_object('field', 'topic', 'value', left(topic, 100)), 'Create it with create_topic().');
    END IF;
    RETURN found_id;
END $$;
COMMENT ON FUNCTION @extschema@.topic_id_of(text) IS 'Internal: number of a topic; TL002 when there is none.';
