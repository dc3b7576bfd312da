CREATE OR REPLACE FUNCTION @extschema@.create_aggregate(aggregate_type text, aggregate_id text, topic text DEFAULT 'store', tenant_id text DEFAULT NULL)
    RETURNS boolean LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    t    record := @extschema@.append_topic(create_aggregate.topic);
    name text := aggregate_type || '-' || aggregate_id;
    made boolean;
BEGIN
    IF coalesce(strpos(aggregate_type, '-') > 0 OR aggregate_type = '', true) THEN
        PERFORM @extschema@.fail('TL005', 'aggregate_type is empty or has a dash', '{"field": "aggregate_type"}');
    ELSIF coalesce(aggregate_id = '', true) THEN
        PERFORM @extschema@.fail('TL005', 'aggregate_id is empty', '{"field": "aggregate_id"}');
    END IF;
    PERFORM @extschema@.check_stream(name);
    PERFORM @extschema@.check_append(1, NULL, create_aggregate.tenant_id);
    INSERT INTO @extschema@.streams (topic_id, stream, version, tenant_id, after_position)
        VALUES (t.topic_id, name, 0, create_aggregate.tenant_id, @extschema@.stream_begin(t.topic_id)) ON CONFLICT DO NOTHING;
    made := FOUND;
    IF NOT made AND create_aggregate.tenant_id IS NOT NULL AND EXISTS (SELECT FROM @extschema@.streams s
            WHERE s.topic_id = t.topic_id AND s.stream = name AND s.tenant_id IS DISTINCT FROM create_aggregate.tenant_id)
    THEN
        PERFORM @extschema@.fail('42501', format('stream "%s" is not of tenant "%s"', name, create_aggregate.tenant_id),
            jsonb_build_object('field', 'tenant_id', 'stream', name));
    END IF;
    RETURN made;
END $$;
COMMENT ON FUNCTION @extschema@.create_aggregate(text, text, text, text) IS
    'Make the stream type-id at version 0, for aggregates that should be listed before their first event; append() needs no such call. true: made; false: it was there. aggregate_type has no dash. Errors as append().';
