-- The plain path is one INSERT, static for the two built-in topics: as fast as PL/pgSQL gets.
-- ROWS 1 is a matter of correctness: were more expected, the planner would put Memoize on a lateral
-- join with this function, VOLATILE or not, and equal events would be stored once.
CREATE OR REPLACE FUNCTION @extschema@.publish(
        type text, data jsonb, topic text DEFAULT 'bus', event_id uuid DEFAULT NULL, key text DEFAULT NULL,
        tenant_id text DEFAULT NULL, source text DEFAULT NULL, metadata jsonb DEFAULT NULL,
        expires_at timestamptz DEFAULT NULL)
    RETURNS TABLE (id uuid, "position" bigint, deduplicated boolean) LANGUAGE plpgsql VOLATILE ROWS 1
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    -- the whole of check_event() in one expression of few calls, for the common case
    IF (publish.type NOT LIKE ALL ('{"", .%, %., %..%, %*%}')
        AND greatest(octet_length(publish.type), octet_length(publish.key), octet_length(publish.tenant_id),
            octet_length(publish.source)) <= 255
        AND least(octet_length(publish.key), octet_length(publish.tenant_id), octet_length(publish.source)) IS DISTINCT FROM 0
        AND publish.metadata IS NULL AND pg_column_size(publish.data) <= 1024) IS NOT TRUE
    THEN
        PERFORM @extschema@.check_event(publish.topic, publish.type, publish.data, publish.key,
            publish.tenant_id, publish.source, publish.metadata);
    END IF;
    IF publish.event_id IS NOT NULL THEN
        RETURN QUERY SELECT p.id, p."position", p.deduplicated
            FROM @extschema@.publish_once(publish.type, publish.data, publish.topic, publish.event_id, publish.key,
                publish.tenant_id, publish.source, publish.metadata, publish.expires_at) p;
    ELSIF publish.topic = 'bus' THEN
        RETURN QUERY INSERT INTO @extschema@.topic_bus (type, source, key, tenant_id, data, metadata, expires_at)
            VALUES (publish.type, publish.source, publish.key, publish.tenant_id,
                coalesce(publish.data, 'null'), publish.metadata, publish.expires_at)
            RETURNING topic_bus.id, topic_bus."position", false;
    ELSIF publish.topic = 'store' THEN
        RETURN QUERY INSERT INTO @extschema@.topic_store (type, source, key, tenant_id, data, metadata, expires_at)
            VALUES (publish.type, publish.source, publish.key, publish.tenant_id,
                coalesce(publish.data, 'null'), publish.metadata, publish.expires_at)
            RETURNING topic_store.id, topic_store."position", false;
    ELSE
        PERFORM @extschema@.topic_id_of(publish.topic);
        RETURN QUERY EXECUTE format('INSERT INTO @extschema@.%I AS t (type, source, key, tenant_id, data, metadata, expires_at)
            VALUES ($1, $2, $3, $4, coalesce($5, ''null''), $6, $7) RETURNING t.id, t."position", false', 'topic_' || publish.topic)
            USING publish.type, publish.source, publish.key, publish.tenant_id, publish.data, publish.metadata,
                publish.expires_at;
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.publish(text, jsonb, text, uuid, text, text, text, jsonb, timestamptz) IS
    'Publish one event in the caller''s transaction. type: 1 to 255 bytes, dotted segments. data: any JSON value, NULL is JSON null. event_id: yours, for repeating a publish safely: the same id and content within the topic''s dedup_window returns the first result with deduplicated = true, other content is TL003; NULL: generated. key: ordering key. metadata: JSON object. Returns id and position. Errors: TL005 names the field, TL007 too large, TL002 unknown topic, 42501 no right.';
