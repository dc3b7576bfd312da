CREATE OR REPLACE FUNCTION @extschema@.snapshot_get(
        stream text, schema_version integer DEFAULT 1, topic text DEFAULT 'store', tenant_id text DEFAULT NULL)
    RETURNS TABLE (version bigint, state jsonb, created_at timestamptz) LANGUAGE plpgsql STABLE ROWS 1
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT p.version, p.state, p.created_at FROM @extschema@.snapshots p
          JOIN @extschema@.streams s ON s.topic_id = p.topic_id AND s.stream = p.stream
         WHERE p.topic_id = @extschema@.topic_id_of(snapshot_get.topic) AND p.stream = snapshot_get.stream AND p.schema_version = snapshot_get.schema_version
           AND p.version >= s.first_version AND p.version <= s.version
           AND (snapshot_get.tenant_id IS NULL OR s.tenant_id = snapshot_get.tenant_id);
END $$;
COMMENT ON FUNCTION @extschema@.snapshot_get(text, integer, text, text) IS
    'The snapshot of a stream in a schema version. No row: there is none that holds, or the stream is not of this tenant (NULL: whoever''s).';
