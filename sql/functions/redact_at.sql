CREATE OR REPLACE FUNCTION @extschema@.redact_at(topic text, "position" bigint, reason text, metadata boolean DEFAULT true) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    number    integer := @extschema@.redact_topic(topic, reason);
    e         record;
    new_entry bigint;
BEGIN
    IF metadata IS NULL THEN
        PERFORM @extschema@.fail('TL005', 'metadata is NULL', '{"field": "metadata"}');
    END IF;
    EXECUTE format('SELECT x.id, x.stream, x.version, x.data = ''null'' AS is_empty, x.metadata::jsonb AS metadata FROM @extschema@.%I x
         WHERE x."position" = $1 FOR NO KEY UPDATE', 'topic_' || topic) INTO e USING "position";
    IF e.id IS NULL THEN
        PERFORM @extschema@.fail('TL002', format('there is no event at position %s of topic "%s"', "position", topic),
            jsonb_build_object('field', 'position', 'topic', topic, 'position', "position"));
    END IF;
    -- done before, by the word of audit and not of the event, which could say what it likes
    IF e.is_empty AND (metadata IS FALSE OR e.metadata - '{redacted,correlation_id,causation_id}'::text[] = '{}') AND EXISTS (
        SELECT FROM @extschema@.audit a WHERE a.audit_id = CASE WHEN e.metadata #>> '{redacted,audit_id}' ~ '^[0-9]{1,18}$' THEN (e.metadata #>> '{redacted,audit_id}')::bigint END
           AND (a.action = 'redact' AND a.object = format('%s/%s', topic, "position")
                OR a.action = 'delete_stream' AND a.object = topic || '/' || e.stream))
    THEN
        RETURN false;
    END IF;
    INSERT INTO @extschema@.audit AS a (actor, action, object, reason, detail)
        VALUES (@extschema@.caller(), 'redact', format('%s/%s', topic, "position"), reason,
            jsonb_build_object('topic', topic, 'position', "position", 'id', e.id, 'stream', e.stream, 'version', e.version, 'metadata', metadata))
        RETURNING a.audit_id INTO new_entry;
    PERFORM @extschema@.redact_rows(topic, number, ARRAY["position"], new_entry, NOT metadata);
    PERFORM @extschema@.redact_snapshots(number, ARRAY[e.stream::text]);
    PERFORM @extschema@.redact_commands(number, e.stream, ARRAY[e.id], new_entry, NOT metadata);
    RETURN true;
END $$;
COMMENT ON FUNCTION @extschema@.redact_at(text, bigint, text, boolean) IS
    'As redact(), by position: for events whose id redact() does not find.';
