CREATE OR REPLACE FUNCTION @extschema@.stream_info(stream text, topic text DEFAULT 'store', tenant_id text DEFAULT NULL)
    RETURNS SETOF @extschema@.stream_row
    LANGUAGE plpgsql STABLE ROWS 1
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM @extschema@.check_stream($1);
    RETURN QUERY SELECT s.stream::text, s.version, s.first_version, s.state::text, s.tenant_id::text, s.max_count, s.max_age, s.metadata::jsonb,
            s.created_at, s.updated_at
        FROM @extschema@.streams s
       WHERE s.topic_id = @extschema@.topic_id_of($2) AND s.stream = $1 AND ($3 IS NULL OR s.tenant_id = $3);
END $$;
COMMENT ON FUNCTION @extschema@.stream_info(text, text, text) IS
    'The row of a stream: version (0: no event yet), first_version (reads begin there), state (open, deleted, tombstone), tenant and settings. No row: absent, or not this tenant''s (NULL: whoever''s). TL002 unknown topic.';
