-- Nothing to read and no right to read are not the same.
CREATE OR REPLACE FUNCTION @extschema@.readable(topic text) RETURNS integer LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    number integer := @extschema@.topic_id_of(topic);
BEGIN
    IF NOT (SELECT t.streams FROM @extschema@.topics t WHERE t.topic_id = number) THEN
        PERFORM @extschema@.fail('0A000', format('topic "%s" has no streams', topic), jsonb_build_object('field', 'topic', 'value', topic),
            'Read it with read().');
    ELSIF NOT has_column_privilege('@extschema@.topic_' || topic, 'data', 'SELECT') THEN
        PERFORM @extschema@.fail('42501', format('permission denied for topic "%s"', topic), jsonb_build_object('field', 'topic', 'value', topic),
            'The owner of the schema gives the right with grant_read().');
    END IF;
    RETURN number;
END $$;
COMMENT ON FUNCTION @extschema@.readable(text) IS
    'Internal: number of a topic with streams that one may read: TL002 there is none, 0A000 it has no streams, 42501 no right.';
