CREATE OR REPLACE FUNCTION @extschema@.append_one(stream text, type text, data jsonb, expected_version bigint, event_id uuid,
        metadata jsonb, source text, tenant_id text, topic text)
    RETURNS SETOF @extschema@.appended LANGUAGE plpgsql VOLATILE ROWS 1
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    t record := @extschema@.append_topic(append_one.topic);
BEGIN
    PERFORM @extschema@.check_stream(append_one.stream);
    PERFORM @extschema@.check_append(1, append_one.expected_version, append_one.tenant_id);
    PERFORM @extschema@.check_event(append_one.topic, append_one.type, append_one.data, NULL, append_one.tenant_id, append_one.source,
        append_one.metadata);
    RETURN QUERY SELECT a.id, a.version, a."position", a.deduplicated
        FROM @extschema@.append_core(append_one.topic, t.topic_id, ARRAY[append_one.stream], ARRAY[append_one.expected_version],
            ARRAY[1], false, ARRAY[append_one.type], ARRAY[append_one.data], ARRAY[append_one.metadata],
            CASE WHEN append_one.event_id IS NOT NULL THEN ARRAY[append_one.event_id] END, ARRAY[append_one.source], NULL, NULL,
            append_one.tenant_id) a;
END $$;
COMMENT ON FUNCTION @extschema@.append_one(text, text, jsonb, bigint, uuid, jsonb, text, text, text) IS
    'Internal: append_event() for all that its plain path leaves: new streams, ids, topics of one''s own, and mistakes.';
