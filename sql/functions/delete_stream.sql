CREATE OR REPLACE FUNCTION @extschema@.delete_stream(stream text, expected_version bigint DEFAULT NULL, hard boolean DEFAULT false,
        reason text DEFAULT NULL, topic text DEFAULT 'store', tenant_id text DEFAULT NULL)
    RETURNS boolean LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    number integer;
    s      @extschema@.streams;
    entry  bigint;
BEGIN
    IF delete_stream.hard THEN
        -- whose right redact() is has this one
        number := @extschema@.redact_topic(delete_stream.topic, delete_stream.reason);
    ELSE
        SELECT a.topic_id INTO number FROM @extschema@.append_topic(delete_stream.topic) a;
    END IF;
    PERFORM @extschema@.check_stream(delete_stream.stream);
    PERFORM @extschema@.check_append(1, delete_stream.expected_version, delete_stream.tenant_id);
    IF delete_stream.hard IS NULL THEN
        PERFORM @extschema@.fail('TL005', 'hard is NULL', '{"field": "hard"}');
    ELSIF octet_length(delete_stream.reason) > 1000 THEN
        PERFORM @extschema@.fail('TL005', 'reason is longer than 1000 bytes', '{"field": "reason", "limit": 1000}');
    END IF;
    IF delete_stream.hard THEN
        -- before the stream, as command_process() locks them
        PERFORM FROM @extschema@.commands c WHERE c.topic_id = number AND c.aggregate = delete_stream.stream AND c.status = 'pending'
          ORDER BY c.id FOR NO KEY UPDATE;
    END IF;
    SELECT x.* INTO s FROM @extschema@.streams x WHERE x.topic_id = number AND x.stream = delete_stream.stream FOR NO KEY UPDATE;
    IF FOUND AND s.tenant_id IS DISTINCT FROM delete_stream.tenant_id AND delete_stream.tenant_id IS NOT NULL THEN
        PERFORM @extschema@.fail('42501', format('stream "%s" is not of tenant "%s"', delete_stream.stream, delete_stream.tenant_id),
            jsonb_build_object('field', 'tenant_id', 'stream', delete_stream.stream));
    END IF;
    IF delete_stream.expected_version IS DISTINCT FROM NULL AND NOT (delete_stream.expected_version = coalesce(s.version, 0)
        OR delete_stream.expected_version = -1 AND s.version > 0 AND s.state = 'open')
    THEN
        PERFORM @extschema@.conflict(delete_stream.stream, delete_stream.expected_version, coalesce(s.version, 0),
            CASE s.state WHEN 'tombstone' THEN 'tombstone' WHEN 'deleted' THEN 'deleted' ELSE 'version' END);
    END IF;
    IF s.stream IS NULL OR s.state = 'tombstone' OR s.state = 'deleted' AND NOT delete_stream.hard THEN
        RETURN false;
    END IF;
    INSERT INTO @extschema@.audit (actor, action, object, reason, detail)
        VALUES (@extschema@.caller(), 'delete_stream', delete_stream.topic || '/' || delete_stream.stream, delete_stream.reason,
            jsonb_build_object('topic', delete_stream.topic, 'stream', delete_stream.stream, 'version', s.version, 'hard', delete_stream.hard))
        RETURNING audit_id INTO entry;
    UPDATE @extschema@.streams x
       SET state = CASE WHEN delete_stream.hard THEN 'tombstone' ELSE 'deleted' END, first_version = s.version + 1, updated_at = clock_timestamp(),
           metadata = CASE WHEN NOT delete_stream.hard THEN x.metadata END
     WHERE x.topic_id = number AND x.stream = delete_stream.stream;
    IF delete_stream.hard THEN
        PERFORM @extschema@.redact_stream(delete_stream.topic, number, delete_stream.stream, s.version, entry);
    END IF;
    RETURN true;
END $$;
COMMENT ON FUNCTION @extschema@.delete_stream(text, bigint, boolean, text, text, text) IS
    'Delete a stream: reads of it give nothing; the log keeps its events. The next append, expecting no stream, any or the version it has, opens it again and goes on with the next version. hard: for ever; no append is possible any more, the payloads of all its events and commands are redacted and commands that wait are rejected, which takes a reason and the right to redact. true: deleted; false: it was not there, or deleted so before. An entry of audit says who did it. expected_version and tenant_id as in append(). TL001 the stream is not as expected, TL005 names the field, 42501 no right.';
