CREATE OR REPLACE FUNCTION @extschema@.stream_exists(stream text, topic text DEFAULT 'store', tenant_id text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@.check_stream(stream_exists.stream);
    RETURN EXISTS (SELECT FROM @extschema@.streams s
         WHERE s.topic_id = @extschema@.topic_id_of(stream_exists.topic) AND s.stream = stream_exists.stream
           AND s.version > 0 AND s.state = 'open' AND (stream_exists.tenant_id IS NULL OR s.tenant_id = stream_exists.tenant_id));
END $$;
COMMENT ON FUNCTION @extschema@.stream_exists(text, text, text) IS
    'true: the stream has events and is not deleted, and is this tenant''s (NULL: whoever''s). TL002 unknown topic.';
