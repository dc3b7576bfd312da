CREATE OR REPLACE FUNCTION @extschema@.live_read_stream(
        topic text, stream text, after bigint, max_events integer DEFAULT 1000, max_bytes bigint DEFAULT 4194304, tenant text DEFAULT NULL)
    RETURNS TABLE ("position" bigint, id uuid, type text, source text, stream_name text, version bigint, key text,
        tenant_id text, data jsonb, metadata jsonb, expires_at timestamptz, created_at timestamptz, bytes bigint)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM @extschema@.check_version(live_read_stream.stream, live_read_stream.after,
        @extschema@.stream_version(live_read_stream.stream, live_read_stream.topic, live_read_stream.tenant));
    RETURN QUERY SELECT q."position", q.id, q.type, q.source, q.stream, q.version, q.key, q.tenant_id, q.data, q.metadata, q.expires_at,
            q.created_at, q.bytes
          FROM (SELECT r.*, sum(pg_column_size(r.data) + coalesce(pg_column_size(r.metadata), 0)) OVER (ROWS UNBOUNDED PRECEDING) AS bytes
                  FROM @extschema@.read_stream(live_read_stream.stream, live_read_stream.after, max_events => live_read_stream.max_events,
                        tenant_id => live_read_stream.tenant, topic => live_read_stream.topic) r) q
         WHERE q.bytes - pg_column_size(q.data) - coalesce(pg_column_size(q.metadata), 0) < max_bytes;
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION @extschema@.live_read_stream(text, text, bigint, integer, bigint, text) IS
    'Internal, for live subscriptions of the client: what read_stream() gives after a version; shaped like live_read(). The row without id at its end says nothing. TL005 the stream ends before that version.';
