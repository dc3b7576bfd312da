CREATE OR REPLACE FUNCTION @extschema@.find_scheduled(id uuid, topic text) RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    only_topic integer := CASE WHEN find_scheduled.topic IS NOT NULL THEN @extschema@.topic_id_of(find_scheduled.topic) END;
    numbers    bigint[];
    moved      bigint;
BEGIN
    SELECT array_agg(s.scheduled_id) INTO numbers FROM @extschema@.scheduled s
     WHERE s.id = find_scheduled.id AND (only_topic IS NULL OR s.topic_id = only_topic);
    IF cardinality(numbers) = 1 THEN
        RETURN numbers[1];
    ELSIF cardinality(numbers) > 1 THEN
        PERFORM @extschema@.fail('TL005', format('event %s is scheduled on %s topics', find_scheduled.id, cardinality(numbers)),
            '{"field": "topic"}', 'Say which topic.');
    END IF;
    SELECT l."position" INTO moved FROM @extschema@.locate(find_scheduled.id) l
     WHERE l.topic = coalesce(find_scheduled.topic, l.topic) LIMIT 1;
    IF moved IS NOT NULL THEN
        PERFORM @extschema@.fail('TL005', format('event %s is in the log: its delivery began', find_scheduled.id),
            jsonb_build_object('field', 'id', 'id', find_scheduled.id, 'position', moved));
    END IF;
    PERFORM @extschema@.fail('TL002', format('event %s is not scheduled', find_scheduled.id),
        jsonb_build_object('field', 'id', 'id', find_scheduled.id));
END $$;
COMMENT ON FUNCTION @extschema@.find_scheduled(uuid, text) IS
    'Internal: number of a delayed event that is not due yet. TL005: it is in the log, TL002: unknown.';
