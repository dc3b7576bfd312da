CREATE OR REPLACE FUNCTION @extschema@.live_read_stream(
        topic text, stream text, after bigint, max_events integer DEFAULT 1000, max_bytes bigint DEFAULT 4194304, tenant text DEFAULT NULL)
    RETURNS TABLE ("position" bigint, id uuid, type text, source text, stream_name text, version bigint, key text,
        tenant_id text, data jsonb, metadata jsonb, expires_at timestamptz, created_at timestamptz, bytes bigint)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    s @extschema@.streams;
BEGIN
    SELECT x.* INTO s FROM @extschema@.streams x
     WHERE x.topic_id = @extschema@.topic_id_of(live_read_stream.topic) AND x.stream = live_read_stream.stream
       AND (live_read_stream.tenant IS NULL OR x.tenant_id = live_read_stream.tenant);
    PERFORM @extschema@.check_version(live_read_stream.stream, live_read_stream.after, coalesce(s.version, 0));
    RETURN QUERY EXECUTE format('SELECT q."position", q.id, q.type::text, q.source::text, q.stream::text, q.version, q.key::text, q.tenant_id::text,
            q.data::jsonb, q.metadata::jsonb, q.expires_at, q.created_at, q.bytes
          FROM (SELECT p.*, sum(pg_column_size(p.data) + coalesce(pg_column_size(p.metadata), 0)) OVER (ORDER BY p.version ROWS UNBOUNDED PRECEDING) AS bytes
                  FROM (SELECT e.* FROM @extschema@.%I e
                         WHERE e.stream = $1 AND e.version > $2 AND ($3 IS NULL OR e.created_at >= $3)
                         ORDER BY e.version LIMIT $4) p) q
         WHERE q.bytes - pg_column_size(q.data) - coalesce(pg_column_size(q.metadata), 0) < $5 ORDER BY q.version', 'topic_' || live_read_stream.topic)
        USING live_read_stream.stream, greatest(live_read_stream.after, s.first_version - 1, s.version - s.max_count),
            clock_timestamp() - s.max_age, max_events, max_bytes;
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION @extschema@.live_read_stream(text, text, bigint, integer, bigint, text) IS
    'Internal, for live subscriptions of the client: what read_stream() gives after a version; shaped like live_read(). The row without id at its end says nothing. TL005 the stream ends before that version.';
