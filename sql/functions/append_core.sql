-- All appends but the plain one of append_event(). Streams are locked in one order, whatever the order of
-- the arguments; versions are checked before ids are claimed, and ids before a position is spent.
CREATE OR REPLACE FUNCTION @extschema@.append_core(topic text, topic_id integer, streams text[], expected bigint[], place integer[],
        is_many boolean, types text[], data jsonb[], metadata jsonb[], ids uuid[], sources text[], keys text[], expires timestamptz[],
        tenant_id text)
    RETURNS TABLE (stream text, id uuid, version bigint, "position" bigint, deduplicated boolean) LANGUAGE plpgsql VOLATILE ROWS 1
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    given    integer := (SELECT count(i) FROM unnest(ids) i);
    wanted   uuid[] := ids;
    counts   integer[];
    bases    bigint[] := '{}';
    owners   text[] := '{}';
    is_new   boolean[] := '{}';
    versions bigint[];
    l        record;
    w        integer;
    n        integer;
BEGIN
    IF given > 0 THEN
        IF given > (SELECT count(DISTINCT i) FROM unnest(ids) i) THEN
            PERFORM @extschema@.fail('TL005', 'two events have the same id', '{"field": "id"}');
        END IF;
        -- dedup does not know the ids that next_id() made, but they hold their position
        FOR l IN SELECT i.id, i.n FROM unnest(ids) WITH ORDINALITY i(id, n)
                  WHERE substr(i.id::text, 15, 4) = to_hex(28672 | append_core.topic_id) ORDER BY i.n
        LOOP
            IF @extschema@.made_at(topic, l.id) IS NOT NULL THEN
                PERFORM @extschema@.fail('TL003', format('event %s was stored before, with an id made for it', l.id),
                    jsonb_build_object('field', 'id', 'id', l.id, 'reason', 'generated') || @extschema@.event_place(l.n, place, streams, is_many),
                    'Only an append that was given its ids can be repeated.');
            END IF;
        END LOOP;
        RETURN QUERY SELECT * FROM @extschema@.repeated(topic, append_core.topic_id, streams, expected, place, is_many, types, append_core.data,
            append_core.metadata, ids, sources, keys, expires, append_core.tenant_id);
        IF FOUND THEN
            RETURN;
        END IF;
        -- made here so that locate() finds them as it does the others
        wanted := ARRAY(SELECT coalesce(i, @extschema@.later_id(append_core.topic_id)) FROM unnest(ids) WITH ORDINALITY u(i, o) ORDER BY o);
    END IF;
    counts := ARRAY(SELECT count(p)::integer FROM generate_series(1, cardinality(streams)) s(n) LEFT JOIN unnest(place) p ON p = s.n
                     GROUP BY s.n ORDER BY s.n);
    FOR w IN SELECT s.n FROM unnest(streams) WITH ORDINALITY s(name, n) ORDER BY s.name COLLATE "C" LOOP
        l := @extschema@.lock_stream(append_core.topic_id, streams[w], expected[w], counts[w], append_core.tenant_id);
        bases[w] := l.base;
        owners[w] := l.owner;
        is_new[w] := l.is_new;
        CONTINUE WHEN l.reason IS NULL;
        -- perhaps by the first try of this very append, which has just ended
        IF given > 0 THEN
            RETURN QUERY SELECT * FROM @extschema@.repeated(topic, append_core.topic_id, streams, expected, place, is_many, types, append_core.data,
                append_core.metadata, ids, sources, keys, expires, append_core.tenant_id);
            IF FOUND THEN
                DELETE FROM @extschema@.streams s USING unnest(streams, is_new) x(stream, is_new)
                 WHERE s.topic_id = append_core.topic_id AND s.stream = x.stream AND x.is_new;
                RETURN;
            END IF;
        END IF;
        PERFORM @extschema@.conflict(streams[w], expected[w], l.base, l.reason, CASE WHEN is_many THEN w - 1 END);
    END LOOP;
    versions := ARRAY(SELECT bases[u.p] + row_number() OVER (PARTITION BY u.p ORDER BY u.n) FROM unnest(place) WITH ORDINALITY u(p, n) ORDER BY u.n);
    IF given > 0 THEN
        INSERT INTO @extschema@.dedup (topic_id, id, digest, stream, version)
            SELECT append_core.topic_id, u.id,
                   @extschema@.event_digest(u.type, coalesce(u.data, 'null'), u.key, NULL, u.source, u.metadata, u.expires_at, NULL),
                   streams[u.place], u.version
              FROM unnest(types, append_core.data, append_core.metadata, wanted, sources, keys, expires, place, versions)
                   u(type, data, metadata, id, source, key, expires_at, place, version)
             ORDER BY u.id ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS n = ROW_COUNT;
        IF n < cardinality(place) THEN
            -- as if this had been seen before any was claimed
            DELETE FROM @extschema@.dedup d USING unnest(wanted, place, versions) x(id, place, version)
             WHERE d.topic_id = append_core.topic_id AND d.id = x.id AND d.stream = streams[x.place] AND d.version = x.version;
            RETURN QUERY SELECT * FROM @extschema@.repeated(topic, append_core.topic_id, streams, expected, place, is_many, types, append_core.data,
                append_core.metadata, ids, sources, keys, expires, append_core.tenant_id);
            IF NOT FOUND THEN
                RAISE serialization_failure USING MESSAGE = 'another transaction stored the same id meanwhile', HINT = 'Repeat the transaction.';
            END IF;
            DELETE FROM @extschema@.streams s USING unnest(streams, is_new) x(stream, is_new)
             WHERE s.topic_id = append_core.topic_id AND s.stream = x.stream AND x.is_new;
            RETURN;
        END IF;
    END IF;
    UPDATE @extschema@.streams s
       SET version = s.version + x.events, state = 'open', tenant_id = x.owner, updated_at = clock_timestamp()
      FROM unnest(streams, counts, owners, is_new) x(stream, events, owner, is_new)
     WHERE s.topic_id = append_core.topic_id AND s.stream = x.stream AND x.events > 0 AND NOT x.is_new;
    -- made only to look
    DELETE FROM @extschema@.streams s USING unnest(streams, counts, is_new) x(stream, events, is_new)
     WHERE s.topic_id = append_core.topic_id AND s.stream = x.stream AND x.events = 0 AND x.is_new;
    RETURN QUERY EXECUTE format('INSERT INTO @extschema@.%I AS e (type, source, stream, version, key, tenant_id, data, metadata, expires_at%s)
        SELECT x.type, x.source, ($1)[x.place], x.version, coalesce(x.key, ($1)[x.place]), ($2)[x.place], coalesce(x.data, ''null''), x.metadata,
               x.expires_at%s
          FROM unnest($3, $4, $5, $6, $7, $8, $9, $10, $11)
               WITH ORDINALITY x(type, data, metadata, source, key, expires_at, place, version, id, n)
         ORDER BY x.n
        RETURNING e.stream::text, e.id, e.version, e."position", false', 'topic_' || topic,
            CASE WHEN given > 0 THEN ', id' ELSE '' END, CASE WHEN given > 0 THEN ', x.id' ELSE '' END)
        USING streams, owners, types, append_core.data, append_core.metadata, sources, keys, expires, place, versions, wanted;
END $$;
COMMENT ON FUNCTION @extschema@.append_core(text, integer, text[], bigint[], integer[], boolean, text[], jsonb[], jsonb[], uuid[], text[], text[], timestamptz[], text) IS
    'Internal: append checked events to streams, place giving the stream of each: all or none.';
