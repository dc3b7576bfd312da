-- The row of a stream is made before its first event has a position.
CREATE OR REPLACE FUNCTION @extschema@.stream_begin(topic_id integer) RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF topic_id = 2 THEN -- store
        RETURN 0;
    END IF;
    RETURN (SELECT pg_sequence_last_value(('@extschema@.position_' || t.name)::regclass) FROM @extschema@.topics t WHERE t.topic_id = stream_begin.topic_id);
END $$;
COMMENT ON FUNCTION @extschema@.stream_begin(integer) IS
    'Internal: after_position of a stream that is made now: the last position that is taken.';
