CREATE OR REPLACE FUNCTION @extschema@.append_streams(writes jsonb, topic text DEFAULT 'store', tenant_id text DEFAULT NULL)
    RETURNS TABLE (stream text, id uuid, version bigint, "position" bigint, deduplicated boolean)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER ROWS 1
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    t        record := @extschema@.append_topic(append_streams.topic);
    streams  text[];
    expected bigint[];
    place    integer[];
    events   jsonb;
    w        record;
    e        record;
    problem  text;
    field    text;
BEGIN
    IF coalesce(jsonb_typeof(writes) <> 'array' OR jsonb_array_length(writes) NOT BETWEEN 1 AND 1000, true) THEN
        PERFORM @extschema@.fail('TL005', 'writes is not a JSON array of 1 to 1000 objects', '{"field": "writes", "limit": 1000}');
    END IF;
    FOR w IN SELECT a.x, a.n FROM jsonb_array_elements(writes) WITH ORDINALITY a(x, n) ORDER BY a.n LOOP
        problem := NULL;
        field := 'writes';
        IF jsonb_typeof(w.x) <> 'object' THEN
            problem := 'not an object';
        ELSE
            SELECT k, format('unknown field "%s"', left(k, 60)) INTO field, problem FROM jsonb_object_keys(w.x) k
             WHERE k NOT IN ('stream', 'expected_version', 'events') ORDER BY k LIMIT 1;
            IF FOUND THEN
                NULL;
            ELSIF coalesce(jsonb_typeof(w.x -> 'stream') <> 'string', true) THEN
                field := 'stream';
                problem := 'stream is not a string';
            ELSIF jsonb_typeof(w.x -> 'events') NOT IN ('array', 'object', 'null') THEN
                field := 'events';
                problem := 'events is not an array';
            ELSIF (w.x -> 'expected_version' IS NULL OR w.x -> 'expected_version' IN ('null', '"any"', '"exists"', '"no_stream"')
                OR jsonb_typeof(w.x -> 'expected_version') = 'number' AND w.x ->> 'expected_version' ~ '^(-1|[0-9]{1,18})$') IS NOT TRUE
            THEN
                field := 'expected_version';
                problem := 'expected_version is not a version, "any", "exists" or "no_stream"';
            END IF;
        END IF;
        IF problem IS NOT NULL THEN
            PERFORM @extschema@.fail('TL005', format('write %s: %s', w.n - 1, problem), jsonb_build_object('field', left(field, 60), 'index', w.n - 1)
                || CASE WHEN jsonb_typeof(w.x -> 'stream') = 'string' THEN jsonb_build_object('stream', left(w.x ->> 'stream', 255)) ELSE '{}' END);
        END IF;
        PERFORM @extschema@.check_stream(w.x ->> 'stream', jsonb_build_object('index', w.n - 1));
        IF w.x ->> 'stream' = ANY (streams) THEN
            PERFORM @extschema@.fail('TL005', format('write %s: stream "%s" is there twice', w.n - 1, w.x ->> 'stream'),
                jsonb_build_object('field', 'stream', 'stream', w.x ->> 'stream', 'index', w.n - 1), 'Put its events into one element.');
        END IF;
        streams := streams || (w.x ->> 'stream');
        expected := array_append(expected, CASE w.x ->> 'expected_version' WHEN 'any' THEN NULL WHEN 'exists' THEN -1 WHEN 'no_stream' THEN 0
            ELSE (w.x ->> 'expected_version')::bigint END);
    END LOOP;
    SELECT jsonb_agg(v.x ORDER BY a.n, v.n), array_agg(a.n::integer ORDER BY a.n, v.n) INTO events, place
      FROM jsonb_array_elements(writes) WITH ORDINALITY a(x, n),
           jsonb_array_elements(CASE jsonb_typeof(a.x -> 'events') WHEN 'array' THEN a.x -> 'events' WHEN 'object' THEN jsonb_build_array(a.x -> 'events')
               ELSE '[]' END) WITH ORDINALITY v(x, n);
    PERFORM @extschema@.check_append(cardinality(place), NULL, append_streams.tenant_id);
    e := @extschema@.parse_events(events, place, streams, true);
    PERFORM @extschema@.check_events(append_streams.topic, t.max_bytes, place, streams, true, e.types, e.data, e.metadata, e.sources, e.keys);
    RETURN QUERY SELECT a.stream, a.id, a.version, a."position", a.deduplicated
        FROM @extschema@.append_core(append_streams.topic, t.topic_id, streams, expected, place, true,
            e.types, e.data, e.metadata, e.ids, e.sources, e.keys, e.expires, append_streams.tenant_id) a;
END $$;
COMMENT ON FUNCTION @extschema@.append_streams(jsonb, text, text) IS
    'Append to several streams, all or none. writes: a JSON array of up to 1000 objects {"stream", "expected_version", "events"}: expected_version a version, "no_stream" (0), "exists" (-1) or "any" (null, the default); events as in append(); without events the stream is only checked, and stays as it is until the transaction ends. 1 to 10000 events in all. Streams are locked in one order, so calls never deadlock with each other. Returns one row an event in the order given. Errors as append(), with stream and index of the write in DETAIL; TL005 also for a stream that is there twice.';
