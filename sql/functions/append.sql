CREATE OR REPLACE FUNCTION @extschema@.append(stream text, events jsonb, expected_version bigint DEFAULT NULL, topic text DEFAULT 'store',
        tenant_id text DEFAULT NULL)
    RETURNS SETOF @extschema@.appended LANGUAGE plpgsql VOLATILE SECURITY DEFINER ROWS 1
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    t     record := @extschema@.append_topic(append.topic);
    list  jsonb := CASE jsonb_typeof(append.events) WHEN 'array' THEN append.events WHEN 'object' THEN jsonb_build_array(append.events) END;
    n     integer := jsonb_array_length(list);
    place integer[];
    e     record;
BEGIN
    PERFORM @extschema@.check_stream(append.stream);
    PERFORM @extschema@.check_append(n, append.expected_version, append.tenant_id);
    place := array_fill(1, ARRAY[n]);
    e := @extschema@.parse_events(list, place, ARRAY[append.stream], false);
    PERFORM @extschema@.check_events(append.topic, t.max_bytes, place, NULL, false, e.types, e.data, e.metadata, e.sources, e.keys);
    IF n = 1 AND num_nonnulls(e.keys[1], e.expires[1]) = 0 THEN
        RETURN QUERY SELECT a.id, a.version, a."position", a.deduplicated
            FROM @extschema@.append_event(append.stream, e.types[1], e.data[1], append.expected_version, e.ids[1], e.metadata[1], e.sources[1],
                append.tenant_id, append.topic) a;
        RETURN;
    END IF;
    RETURN QUERY SELECT a.id, a.version, a."position", a.deduplicated
        FROM @extschema@.append_core(append.topic, t.topic_id, ARRAY[append.stream], ARRAY[append.expected_version], place, false,
            e.types, e.data, e.metadata, e.ids, e.sources, e.keys, e.expires, append.tenant_id) a;
END $$;
COMMENT ON FUNCTION @extschema@.append(text, jsonb, bigint, text, text) IS
    'Append 1 to 10000 events to a stream, all or none, in the caller''s transaction. events: a JSON array of objects, or one object, with the fields type, data, id or idempotency_key (any text of yours), source, metadata, schema_version, key (ordering key; default: the stream) and expires_at. expected_version: the version that the stream must have; 0: it must not exist; -1: it must exist; NULL: any. tenant_id: a new stream becomes that tenant''s, an old one must be (42501); NULL: whoever''s it is. Returns one row an event in order: id, version, position, deduplicated. The same events with the same ids and expected version again give the first result with deduplicated = true. Errors: TL001 the stream is not as expected (stream, expected, actual, reason in DETAIL), TL003 an id is known from another append (also one that an event got here), TL005 names the field and the index of the event, TL007 too large, TL002 unknown topic, 0A000 the topic has no streams, 42501 no right.';
