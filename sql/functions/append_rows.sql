CREATE OR REPLACE FUNCTION @extschema@.append_rows(stream text, types text[], data jsonb[], metadata jsonb[] DEFAULT NULL,
        ids uuid[] DEFAULT NULL, sources text[] DEFAULT NULL, expected_version bigint DEFAULT NULL, topic text DEFAULT 'store',
        tenant_id text DEFAULT NULL)
    RETURNS SETOF @extschema@.appended LANGUAGE plpgsql VOLATILE SECURITY DEFINER ROWS 1
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    t     record := @extschema@.append_topic(append_rows.topic);
    n     integer := cardinality(types);
    field text;
    e     record;
BEGIN
    PERFORM @extschema@.check_stream(append_rows.stream);
    PERFORM @extschema@.check_append(n, append_rows.expected_version, append_rows.tenant_id);
    field := CASE
        WHEN cardinality(append_rows.data) IS DISTINCT FROM n THEN 'data'
        WHEN cardinality(append_rows.metadata) <> n THEN 'metadata'
        WHEN cardinality(append_rows.ids) <> n THEN 'ids'
        WHEN cardinality(append_rows.sources) <> n THEN 'sources' END;
    IF field IS NOT NULL THEN
        PERFORM @extschema@.fail('TL005', format('%s has not as many elements as types', field), jsonb_build_object('field', field, 'limit', n));
    END IF;
    PERFORM @extschema@.check_events(append_rows.topic, t.max_bytes, NULL, NULL, false, types, append_rows.data, append_rows.metadata,
        append_rows.sources, NULL);
    IF n = 1 THEN
        SELECT * INTO e FROM unnest(types, append_rows.data, append_rows.metadata, append_rows.ids, append_rows.sources) u(type, data, metadata, id, source);
        RETURN QUERY SELECT a.id, a.version, a."position", a.deduplicated
            FROM @extschema@.append_event(append_rows.stream, e.type, e.data, append_rows.expected_version, e.id, e.metadata, e.source,
                append_rows.tenant_id, append_rows.topic) a;
        RETURN;
    END IF;
    RETURN QUERY SELECT a.id, a.version, a."position", a.deduplicated
        FROM @extschema@.append_core(append_rows.topic, t.topic_id, ARRAY[append_rows.stream], ARRAY[append_rows.expected_version],
            array_fill(1, ARRAY[n]), false, types, append_rows.data, append_rows.metadata, append_rows.ids, append_rows.sources, NULL, NULL,
            append_rows.tenant_id) a;
END $$;
COMMENT ON FUNCTION @extschema@.append_rows(text, text[], jsonb[], jsonb[], uuid[], text[], bigint, text, text) IS
    'append() for events as arrays, one element an event; metadata, ids and sources may be NULL.';
