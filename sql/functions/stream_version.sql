CREATE OR REPLACE FUNCTION @extschema@.stream_version(stream text, topic text DEFAULT 'store', tenant_id text DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@.check_stream(stream_version.stream);
    RETURN coalesce((SELECT s.version FROM @extschema@.streams s
         WHERE s.topic_id = @extschema@.topic_id_of(stream_version.topic) AND s.stream = stream_version.stream
           AND (stream_version.tenant_id IS NULL OR s.tenant_id = stream_version.tenant_id)), 0);
END $$;
COMMENT ON FUNCTION @extschema@.stream_version(text, text, text) IS
    'Version of a stream: that of its last event, also when the stream was deleted; 0: absent, or not of this tenant (NULL: whoever''s). Never NULL. TL002 unknown topic.';
