CREATE OR REPLACE FUNCTION @extschema@.append_one(stream text, type text, data jsonb, expected_version bigint, event_id uuid,
        metadata jsonb, source text, tenant_id text, topic text)
    RETURNS SETOF @extschema@.appended LANGUAGE plpgsql VOLATILE ROWS 1
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    t record := @extschema@.append_topic(append_one.topic);
    l record;
BEGIN
    PERFORM @extschema@.check_stream(append_one.stream);
    PERFORM @extschema@.check_append(1, append_one.expected_version, append_one.tenant_id);
    PERFORM @extschema@.check_event(append_one.topic, append_one.type, append_one.data, NULL, append_one.tenant_id, append_one.source,
        append_one.metadata);
    IF append_one.event_id IS NULL THEN
        l := @extschema@.lock_stream(t.topic_id, append_one.stream, append_one.expected_version, 1, append_one.tenant_id);
        IF l.reason IS NOT NULL THEN
            PERFORM @extschema@.conflict(append_one.stream, append_one.expected_version, l.base, l.reason);
        ELSIF NOT l.is_new THEN
            UPDATE @extschema@.streams s SET version = l.base + 1, state = 'open', tenant_id = l.owner, updated_at = clock_timestamp()
             WHERE s.topic_id = t.topic_id AND s.stream = append_one.stream;
        END IF;
        RETURN QUERY EXECUTE format('INSERT INTO @extschema@.%I AS e (type, source, stream, version, key, tenant_id, data, metadata)
            VALUES ($1, $2, $3, $4, $3, $5, $6, $7) RETURNING e.id, e.version, e."position", false', 'topic_' || append_one.topic)
            USING append_one.type, append_one.source, append_one.stream, l.base + 1, l.owner, coalesce(append_one.data, 'null'),
                append_one.metadata;
        RETURN;
    END IF;
    RETURN QUERY SELECT a.id, a.version, a."position", a.deduplicated
        FROM @extschema@.append_core(append_one.topic, t.topic_id, ARRAY[append_one.stream], ARRAY[append_one.expected_version],
            ARRAY[1], false, ARRAY[append_one.type], ARRAY[append_one.data], ARRAY[append_one.metadata], ARRAY[append_one.event_id],
            ARRAY[append_one.source], NULL, NULL, append_one.tenant_id) a;
END $$;
COMMENT ON FUNCTION @extschema@.append_one(text, text, jsonb, bigint, uuid, jsonb, text, text, text) IS
    'Internal: append_event() for all that its plain path leaves: topics of one''s own, repeats, deleted streams, and mistakes.';
