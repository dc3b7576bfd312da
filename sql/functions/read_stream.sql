-- Topic store has statements of its own, planned once for a session: planning one for each call costs as
-- much as reading a hundred events. The plan is the same however young the statistics are, since only the
-- index (stream, version) gives the order without a sort. The limit of "position" keeps leaves ahead out.
CREATE OR REPLACE FUNCTION @extschema@.read_stream(
        stream text, after bigint DEFAULT 0, upto bigint DEFAULT NULL, max_events integer DEFAULT 100,
        direction text DEFAULT 'forward', tenant_id text DEFAULT NULL, topic text DEFAULT 'store', upcast boolean DEFAULT false)
    RETURNS SETOF @extschema@.stored_event LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    is_store boolean := read_stream.topic = 'store';
    s        record;
    low      bigint; -- above it
    high     bigint; -- up to it
    oldest   timestamptz;
    top      bigint;
BEGIN
    IF (read_stream.max_events BETWEEN 1 AND 10000 AND read_stream.direction IN ('forward', 'backward')
        AND coalesce(least(read_stream.after, read_stream.upto) >= 0, true)) IS NOT TRUE
    THEN
        PERFORM @extschema@.check_read(read_stream.max_events, read_stream.direction, read_stream.after, read_stream.upto);
    END IF;
    SELECT x.version, x.first_version, x.max_count, x.max_age, x.tenant_id, x.after_position INTO s FROM @extschema@.streams x
     WHERE x.topic_id = CASE WHEN is_store THEN 2 ELSE (SELECT t.topic_id FROM @extschema@.topics t WHERE t.name = read_stream.topic) END
       AND x.stream = read_stream.stream;
    IF NOT FOUND THEN
        PERFORM @extschema@.readable(read_stream.topic);
        RETURN;
    ELSIF NOT coalesce(s.tenant_id = read_stream.tenant_id, read_stream.tenant_id IS NULL) THEN
        RETURN;
    ELSIF read_stream.upcast THEN
        RETURN QUERY SELECT r."position", r.id, r.type, r.source, r.stream, r.version, r.key, r.tenant_id, u.data, u.metadata, r.expires_at, r.created_at
              FROM @extschema@.read_stream(read_stream.stream, read_stream.after, read_stream.upto, read_stream.max_events,
                    read_stream.direction, read_stream.tenant_id, read_stream.topic) WITH ORDINALITY r
                  (position, id, type, source, stream, version, key, tenant_id, data, metadata, expires_at, created_at, n),
                @extschema@.upcast_event(r.type, r.data, r.metadata) u ORDER BY r.n;
        RETURN;
    END IF;
    -- what append() commits while we read is left for the next call
    IF read_stream.direction = 'forward' THEN
        low := greatest(read_stream.after, s.first_version - 1, s.version - s.max_count);
        high := least(read_stream.upto, s.version);
    ELSE
        low := greatest(read_stream.upto - 1, s.first_version - 1, s.version - s.max_count);
        high := least(CASE WHEN read_stream.after > 0 THEN read_stream.after - 1 END, s.version);
    END IF;
    IF s.max_age IS NOT NULL THEN
        oldest := clock_timestamp() - s.max_age;
        top := @extschema@.read_limit(read_stream.topic);
        low := @extschema@.version_since(read_stream.topic, read_stream.stream, oldest, low, high, s.after_position, top);
    END IF;
    IF NOT is_store THEN
        RETURN QUERY EXECUTE format('SELECT e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at
              FROM @extschema@.%I e WHERE e.stream = $1 AND e.version > $2 AND e.version <= $3 AND e."position" > $7 AND e."position" <= $4
               AND ($5 IS NULL OR e.created_at >= $5)
             ORDER BY e.version %s LIMIT $6', 'topic_' || read_stream.topic, CASE read_stream.direction WHEN 'backward' THEN 'DESC' ELSE '' END)
            USING read_stream.stream, low, high, coalesce(top, @extschema@.read_limit(read_stream.topic)), oldest, read_stream.max_events, s.after_position;
        RETURN;
    END IF;
    top := CASE WHEN pg_is_in_recovery() THEN @extschema@.read_limit('store') ELSE
        coalesce(pg_sequence_last_value('@extschema@.position_store'), @extschema@.sequence_denied('@extschema@.position_store')) END;
    IF read_stream.direction = 'forward' THEN
        RETURN QUERY SELECT e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at
              FROM @extschema@.topic_store e WHERE e.stream = read_stream.stream AND e.version > low AND e.version <= high AND e."position" <= top
               AND (oldest IS NULL OR e.created_at >= oldest)
             ORDER BY e.version LIMIT read_stream.max_events;
    ELSE
        RETURN QUERY SELECT e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at
              FROM @extschema@.topic_store e WHERE e.stream = read_stream.stream AND e.version > low AND e.version <= high AND e."position" <= top
               AND (oldest IS NULL OR e.created_at >= oldest)
             ORDER BY e.version DESC LIMIT read_stream.max_events;
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.read_stream(text, bigint, bigint, integer, text, text, text, boolean) IS
    'Events of a stream by version: after one (exclusive) up to one (inclusive, NULL: the last). direction backward: from the one before after (0, NULL: from the last) down to upto. max_events: 1 to 10000; read on from the last version. No row: absent, deleted, trimmed by max_count or max_age, or not of this tenant (NULL: whoever''s). upcast: data in its newest form, see upcaster_add(). Errors: TL005 names the field, TL002 unknown topic, 0A000 topic without streams, 42501 no right.';
