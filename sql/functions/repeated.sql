CREATE OR REPLACE FUNCTION @extschema@.repeated(topic text, topic_id integer, streams text[], expected bigint[], place integer[],
        is_many boolean, types text[], data jsonb[], metadata jsonb[], ids uuid[], sources text[], keys text[], expires timestamptz[],
        tenant_id text)
    RETURNS TABLE (stream text, id uuid, version bigint, "position" bigint, deduplicated boolean) LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    x        record;
    versions bigint[] := '{}';
    first    bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(streams)]);
    seen     bigint[] := array_fill(0::bigint, ARRAY[cardinality(streams)]);
    known    integer := 0;
    unknown  bigint;
    w        integer;
BEGIN
    IF NOT EXISTS (SELECT FROM @extschema@.dedup d WHERE d.topic_id = repeated.topic_id AND d.id = ANY (ids)) THEN
        RETURN;
    END IF;
    -- who may not append there learns nothing: lock_stream() refuses it
    IF EXISTS (SELECT FROM @extschema@.streams s WHERE s.topic_id = repeated.topic_id AND s.stream = ANY (streams)
                  AND repeated.tenant_id IS NOT NULL AND s.tenant_id IS DISTINCT FROM repeated.tenant_id)
    THEN
        RETURN;
    END IF;
    FOR x IN
        SELECT u.n, u.place, u.id, d.id IS NOT NULL AS is_known, d.stream, d.version,
               d.digest = @extschema@.event_digest(u.type, coalesce(u.data, 'null'), u.key, NULL, u.source, u.metadata, u.expires_at, NULL) AS is_same
          FROM unnest(types, repeated.data, repeated.metadata, ids, sources, keys, expires, place)
               WITH ORDINALITY u(type, data, metadata, id, source, key, expires_at, place, n)
          LEFT JOIN @extschema@.dedup d ON d.topic_id = repeated.topic_id AND d.id = u.id
         ORDER BY u.n
    LOOP
        w := x.place;
        seen[w] := seen[w] + 1;
        IF NOT x.is_known THEN
            unknown := coalesce(unknown, x.n);
            CONTINUE;
        END IF;
        known := known + 1;
        IF x.stream IS DISTINCT FROM streams[w] OR NOT x.is_same THEN
            PERFORM @extschema@.fail('TL003', format('event %s was stored before %s', x.id,
                    CASE WHEN x.stream IS DISTINCT FROM streams[w] THEN 'elsewhere' ELSE 'with other content' END),
                jsonb_build_object('field', 'id', 'id', x.id, 'reason', CASE WHEN x.stream IS DISTINCT FROM streams[w] THEN 'stream' ELSE 'content' END)
                    || @extschema@.event_place(x.n, place, streams, is_many),
                'Use a new id for a new event.');
        END IF;
        first[w] := coalesce(first[w], x.version - seen[w] + 1);
        versions := versions || x.version;
        IF x.version - seen[w] + 1 <> first[w] THEN
            PERFORM @extschema@.fail('TL003', format('event %s was not appended next to the one before it', x.id),
                jsonb_build_object('field', 'id', 'id', x.id, 'reason', 'order') || @extschema@.event_place(x.n, place, streams, is_many),
                'Repeat an append as it was.');
        END IF;
    END LOOP;
    IF unknown IS NOT NULL THEN
        PERFORM @extschema@.fail('TL003', format('%s of %s events were appended before', known, cardinality(place)),
            jsonb_build_object('field', 'id', 'reason', 'partial') || @extschema@.event_place(unknown, place, streams, is_many),
            'Repeat an append as it was; the event named here is new.');
    END IF;
    FOR w IN 1 .. cardinality(streams) LOOP
        IF expected[w] = -1 AND first[w] = 1 OR expected[w] > 0 AND first[w] - 1 <> expected[w]
            OR expected[w] = 0 AND first[w] <> 1 AND NOT EXISTS (SELECT FROM @extschema@.streams s
                WHERE s.topic_id = repeated.topic_id AND s.stream = streams[w] AND s.first_version > 1)
        THEN
            PERFORM @extschema@.fail('TL003', format('the events were appended before, expecting another version of stream "%s"', streams[w]),
                jsonb_build_object('field', 'expected_version', 'stream', streams[w], 'reason', 'expectation', 'version', first[w])
                    || CASE WHEN is_many THEN jsonb_build_object('index', w - 1) ELSE '{}' END,
                'Repeat an append as it was.');
        END IF;
    END LOOP;
    -- events that retention dropped have no position any more
    RETURN QUERY EXECUTE format('SELECT ($1)[x.place], x.id, x.version, e."position", true
          FROM unnest($2, $3, $4) WITH ORDINALITY x(place, id, version, n)
          LEFT JOIN @extschema@.%I e ON e.stream = ($1)[x.place] AND e.version = x.version
         ORDER BY x.n', 'topic_' || topic) USING streams, place, ids, versions;
END $$;
COMMENT ON FUNCTION @extschema@.repeated(text, integer, text[], bigint[], integer[], boolean, text[], jsonb[], jsonb[], uuid[], text[], text[], timestamptz[], text) IS
    'Internal: the result of an append that was made before with these ids; no rows when none of them is known; TL003 with reason content, stream, order, partial or expectation when it was another append.';
