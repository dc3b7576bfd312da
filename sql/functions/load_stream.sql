-- read_stream() and snapshot_get() in one call, as one snapshot of the database.
CREATE OR REPLACE FUNCTION @extschema@.load_stream(
        stream text, schema_version integer DEFAULT 1, max_events integer DEFAULT 1000, topic text DEFAULT 'store',
        tenant_id text DEFAULT NULL, upcast boolean DEFAULT false)
    RETURNS SETOF @extschema@.loaded_event LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    is_store boolean := load_stream.topic = 'store';
    number   integer;
    s        record;
    snapshot @extschema@.loaded_event;
    low      bigint;
    oldest   timestamptz;
    top      bigint;
BEGIN
    IF (load_stream.max_events BETWEEN 1 AND 10000) IS NOT TRUE THEN
        PERFORM @extschema@.check_read(load_stream.max_events);
    END IF;
    number := CASE WHEN is_store THEN 2 ELSE (SELECT t.topic_id FROM @extschema@.topics t WHERE t.name = load_stream.topic) END;
    SELECT x.version, x.first_version, x.max_count, x.max_age, x.tenant_id, x.after_position INTO s FROM @extschema@.streams x
     WHERE x.topic_id = number AND x.stream = load_stream.stream;
    IF NOT FOUND THEN
        PERFORM @extschema@.readable(load_stream.topic);
        RETURN;
    ELSIF NOT coalesce(s.tenant_id = load_stream.tenant_id, load_stream.tenant_id IS NULL) THEN
        RETURN;
    END IF;
    -- one from before a deletion is of another life
    SELECT p.version, p.state INTO snapshot.snapshot_version, snapshot.state FROM @extschema@.snapshots p
     WHERE p.topic_id = number AND p.stream = load_stream.stream AND p.schema_version = load_stream.schema_version
       AND p.version >= s.first_version AND p.version <= s.version;
    IF FOUND THEN
        RETURN NEXT snapshot;
    END IF;
    IF load_stream.upcast THEN
        RETURN QUERY SELECT r."position", r.id, r.type, r.source, r.stream, r.version, r.key, r.tenant_id, r.data, r.metadata, r.expires_at, r.created_at,
                NULL::bigint, NULL::jsonb
              FROM @extschema@.read_stream(load_stream.stream, coalesce(snapshot.snapshot_version, 0), NULL, load_stream.max_events, 'forward',
                load_stream.tenant_id, load_stream.topic, load_stream.upcast) r;
        RETURN;
    END IF;
    low := greatest(snapshot.snapshot_version, s.first_version - 1, s.version - s.max_count);
    IF s.max_age IS NOT NULL THEN
        oldest := clock_timestamp() - s.max_age;
        low := @extschema@.version_since(load_stream.topic, load_stream.stream, oldest, low, s.version, s.after_position,
            @extschema@.read_limit(load_stream.topic));
    END IF;
    IF NOT is_store THEN
        RETURN QUERY EXECUTE format('SELECT e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at,
                NULL::bigint, NULL::jsonb
              FROM @extschema@.%I e WHERE e.stream = $1 AND e.version > $2 AND e.version <= $3 AND e."position" > $7 AND e."position" <= $4
               AND ($5 IS NULL OR e.created_at >= $5)
             ORDER BY e.version LIMIT $6', 'topic_' || load_stream.topic)
            USING load_stream.stream, low, s.version, @extschema@.read_limit(load_stream.topic), oldest, load_stream.max_events, s.after_position;
        RETURN;
    END IF;
    top := CASE WHEN pg_is_in_recovery() THEN @extschema@.read_limit('store') ELSE
        coalesce(pg_sequence_last_value('@extschema@.position_store'), @extschema@.sequence_denied('@extschema@.position_store')) END;
    RETURN QUERY SELECT e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at,
            NULL::bigint, NULL::jsonb
          FROM @extschema@.topic_store e WHERE e.stream = load_stream.stream AND e.version > low AND e.version <= s.version AND e."position" <= top
           AND (oldest IS NULL OR e.created_at >= oldest)
         ORDER BY e.version LIMIT load_stream.max_events;
END $$;
COMMENT ON FUNCTION @extschema@.load_stream(text, integer, integer, text, text, boolean) IS
    'What it takes to rebuild the state of a stream, in one call: first its snapshot of this schema version, if there is one that holds, in a row of snapshot_version and state alone ("position" is NULL); then the events after it, as read_stream() gives them, at most max_events (1 to 10000): if there are so many, read on with read_stream(). Absent, or not of this tenant: no row. Errors as read_stream().';
