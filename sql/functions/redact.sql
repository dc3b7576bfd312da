CREATE OR REPLACE FUNCTION @extschema@.redact(event_id uuid, reason text, topic text DEFAULT NULL, metadata boolean DEFAULT true) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    place     record;
    new_entry bigint;
    marker    jsonb;
    is_new    boolean := false;
    is_known  boolean := false;
BEGIN
    IF metadata IS NULL THEN
        PERFORM @extschema@.fail('TL005', 'metadata is NULL', '{"field": "metadata"}');
    ELSIF coalesce(octet_length(reason) NOT BETWEEN 1 AND 1000, true) THEN
        PERFORM @extschema@.fail('TL005', 'reason is not 1 to 1000 bytes', '{"field": "reason", "limit": 1000}');
    ELSIF topic IS NOT NULL THEN
        PERFORM @extschema@.redact_topic(topic, reason);
    END IF;
    FOR place IN SELECT l.topic, l."position" FROM @extschema@.locate(event_id) l WHERE redact.topic IS NULL OR l.topic = redact.topic LOOP
        is_new := @extschema@.redact_at(place.topic, place."position", reason, metadata) OR is_new;
        is_known := true;
    END LOOP;
    IF NOT is_known THEN
        -- not in the log: not yet, or not any more
        FOR place IN
            SELECT x.topic_id, x.name FROM @extschema@.topics x
             WHERE (redact.topic IS NULL OR x.name = redact.topic)
               AND (EXISTS (SELECT FROM @extschema@.scheduled s WHERE s.topic_id = x.topic_id AND s.id = event_id)
                    OR EXISTS (SELECT FROM @extschema@.dead_letters d WHERE d.topic = x.name AND (d.event ->> 'id')::uuid = event_id))
             ORDER BY x.topic_id
        LOOP
            PERFORM @extschema@.redact_topic(place.name, reason);
            is_known := true;
            CONTINUE WHEN NOT EXISTS (SELECT FROM @extschema@.scheduled s WHERE s.topic_id = place.topic_id AND s.id = event_id AND s.data <> 'null')
                AND NOT EXISTS (SELECT FROM @extschema@.dead_letters d WHERE d.topic = place.name AND (d.event ->> 'id')::uuid = event_id AND d.event -> 'data' <> 'null');
            INSERT INTO @extschema@.audit AS a (actor, action, object, reason, detail)
                VALUES (@extschema@.caller(), 'redact', format('%s/%s', place.name, event_id), reason,
                    jsonb_build_object('topic', place.name, 'id', event_id, 'metadata', metadata))
                RETURNING a.audit_id, jsonb_build_object('redacted', jsonb_build_object('reason', a.reason, 'at', a.at, 'by', a.actor, 'audit_id', a.audit_id))
                INTO new_entry, marker;
            PERFORM @extschema@.redact_copies(place.name, place.topic_id, '{}', ARRAY[event_id], marker, NOT metadata);
            is_new := true;
        END LOOP;
    END IF;
    IF NOT is_known THEN
        PERFORM @extschema@.fail('TL002', format('event %s is not known', event_id), jsonb_build_object('field', 'event_id', 'id', event_id),
            'An id that was given to a plain INSERT is not found: use redact_at().');
    END IF;
    RETURN is_new;
END $$;
COMMENT ON FUNCTION @extschema@.redact(uuid, text, text, boolean) IS
    'Remove the payload of an event for good: data becomes JSON null, metadata keeps correlation_id and causation_id and gets {"redacted": {"reason", "at", "by", "audit_id"}}; metadata => false leaves the rest of metadata as it is. Position, id, type, source, stream, version, key and tenant stay. Copies go too: retries, dead letters, delayed events, answers and errors of deliveries, snapshots of its stream, arguments of the command that it came of. An entry of audit is written in the same transaction. true: redacted; false: it was already. The server keeps the old bytes until it vacuums the leaf, and in WAL and backups. topic: only there; NULL: wherever it is. TL002 unknown event, TL005 names the field, 42501 no right.';
