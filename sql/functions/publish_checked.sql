CREATE OR REPLACE FUNCTION @extschema@.publish_checked(
        type text, data jsonb, topic text, event_id uuid, key text, tenant_id text, source text, metadata jsonb,
        expires_at timestamptz)
    RETURNS SETOF @extschema@.receipt LANGUAGE plpgsql VOLATILE ROWS 1
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@.check_event(publish_checked.topic, publish_checked.type, publish_checked.data, publish_checked.key,
        publish_checked.tenant_id, publish_checked.source, publish_checked.metadata);
    IF publish_checked.event_id IS NOT NULL THEN
        RETURN QUERY SELECT p.id, p."position", p.deduplicated
            FROM @extschema@.publish_once(publish_checked.type, publish_checked.data, publish_checked.topic,
                publish_checked.event_id, publish_checked.key, publish_checked.tenant_id, publish_checked.source,
                publish_checked.metadata, publish_checked.expires_at) p;
    ELSE
        PERFORM @extschema@.topic_id_of(publish_checked.topic);
        RETURN QUERY EXECUTE format('INSERT INTO @extschema@.%I AS t (type, source, key, tenant_id, data, metadata, expires_at)
            VALUES ($1, $2, $3, $4, coalesce($5, ''null''), $6, $7) RETURNING t.id, t."position", false', 'topic_' || publish_checked.topic)
            USING publish_checked.type, publish_checked.source, publish_checked.key, publish_checked.tenant_id,
                publish_checked.data, publish_checked.metadata, publish_checked.expires_at;
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.publish_checked(text, jsonb, text, uuid, text, text, text, jsonb, timestamptz) IS
    'Internal: publish() for events in a topic of one''s own or with a mistake.';
