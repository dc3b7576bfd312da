-- The plain path is one check and one static INSERT: as fast as PL/pgSQL gets. An IF that is not reached
-- costs nothing. Whatever is not plain, or not right, goes to publish_checked().
-- No search_path of its own, which would cost as much as a tenth of the call: so every function and
-- operator here names its schema, and nothing is used that looks one up by itself (LIKE, IN, BETWEEN,
-- IS DISTINCT FROM, NULLIF, CASE x WHEN). tests/sql/hostile_path.t runs it among impostors.
-- ROWS 1 is a matter of correctness: were more expected, the planner would put Memoize on a lateral
-- join with this function, VOLATILE or not, and equal events would be stored once.
CREATE OR REPLACE FUNCTION @extschema@.publish(
        type text, data jsonb, topic text DEFAULT 'bus', event_id uuid DEFAULT NULL, key text DEFAULT NULL,
        tenant_id text DEFAULT NULL, source text DEFAULT NULL, metadata jsonb DEFAULT NULL,
        expires_at timestamptz DEFAULT NULL, run_at timestamptz DEFAULT NULL, delay interval DEFAULT NULL,
        ttl interval DEFAULT NULL)
    RETURNS SETOF @extschema@.receipt LANGUAGE plpgsql VOLATILE ROWS 1 AS $$
BEGIN
    -- what check_event() asks, in one expression of few calls (least: '' comes before all other text);
    -- 1024 is the least limit a topic can have
    IF publish.type OPERATOR(pg_catalog.!~~) ALL ('{"", .%, %., %..%, %*%}')
        AND greatest(pg_catalog.octet_length(publish.type), pg_catalog.octet_length(publish.key),
            pg_catalog.octet_length(publish.tenant_id)) OPERATOR(pg_catalog.<=) 255
        AND coalesce(least(publish.key, publish.tenant_id) OPERATOR(pg_catalog.<>) '', true)
        AND pg_catalog.pg_column_size(publish.data) OPERATOR(pg_catalog.<=) 1024
        AND pg_catalog.num_nonnulls(publish.event_id, publish.source, publish.metadata, publish.expires_at, publish.run_at,
            publish.delay, publish.ttl) OPERATOR(pg_catalog.=) 0
    THEN
        IF publish.topic OPERATOR(pg_catalog.=) 'bus' THEN
            RETURN QUERY INSERT INTO @extschema@.topic_bus AS t (type, key, tenant_id, data)
                VALUES (publish.type, publish.key, publish.tenant_id, publish.data)
                RETURNING t.id, t."position", false;
            RETURN;
        ELSIF publish.topic OPERATOR(pg_catalog.=) 'store' THEN
            RETURN QUERY INSERT INTO @extschema@.topic_store AS t (type, key, tenant_id, data)
                VALUES (publish.type, publish.key, publish.tenant_id, publish.data)
                RETURNING t.id, t."position", false;
            RETURN;
        END IF;
    ELSIF publish.run_at IS NOT NULL OR publish.delay IS NOT NULL OR publish.ttl IS NOT NULL THEN
        RETURN QUERY SELECT p.id, p."position", p.deduplicated
            FROM @extschema@.publish_later(publish.type, publish.data, publish.topic, publish.event_id, publish.key,
                publish.tenant_id, publish.source, publish.metadata, publish.expires_at, publish.run_at, publish.delay,
                publish.ttl) p;
        RETURN;
    ELSIF publish.type OPERATOR(pg_catalog.!~~) ALL ('{"", .%, %., %..%, %*%}')
        AND greatest(pg_catalog.octet_length(publish.type), pg_catalog.octet_length(publish.key),
            pg_catalog.octet_length(publish.tenant_id), pg_catalog.octet_length(publish.source)) OPERATOR(pg_catalog.<=) 255
        AND coalesce(least(publish.key, publish.tenant_id, publish.source) OPERATOR(pg_catalog.<>) '', true)
        AND coalesce(pg_catalog.jsonb_typeof(publish.metadata) OPERATOR(pg_catalog.=) 'object'
            AND pg_catalog.pg_column_size(publish.metadata) OPERATOR(pg_catalog.<=) 65536, true)
    THEN
        IF pg_catalog.pg_column_size(publish.data) OPERATOR(pg_catalog.>) 1024 THEN
            PERFORM @extschema@.check_size(publish.topic, pg_catalog.pg_column_size(publish.data));
        END IF;
        IF publish.event_id IS NOT NULL THEN
            RETURN QUERY SELECT p.id, p."position", p.deduplicated
                FROM @extschema@.publish_once(publish.type, publish.data, publish.topic, publish.event_id, publish.key,
                    publish.tenant_id, publish.source, publish.metadata, publish.expires_at) p;
            RETURN;
        ELSIF publish.topic OPERATOR(pg_catalog.=) 'bus' THEN
            RETURN QUERY INSERT INTO @extschema@.topic_bus AS t (type, source, key, tenant_id, data, metadata, expires_at)
                VALUES (publish.type, publish.source, publish.key, publish.tenant_id, coalesce(publish.data, 'null'), publish.metadata,
                    publish.expires_at)
                RETURNING t.id, t."position", false;
            RETURN;
        END IF;
    END IF;
    RETURN QUERY SELECT p.id, p."position", p.deduplicated
        FROM @extschema@.publish_checked(publish.type, publish.data, publish.topic, publish.event_id, publish.key,
            publish.tenant_id, publish.source, publish.metadata, publish.expires_at) p;
END $$;
COMMENT ON FUNCTION @extschema@.publish(text, jsonb, text, uuid, text, text, text, jsonb, timestamptz, timestamptz, interval, interval) IS
    'Publish one event in the caller''s transaction. type: 1 to 255 bytes, dotted segments. data: any JSON value, NULL is JSON null. event_id: yours, for repeating a publish safely: the same id and content within the topic''s dedup_window returns the first result with deduplicated = true, other content is TL003; NULL: generated. key: ordering key. metadata: JSON object. run_at or delay (up to 10 years): the event falls due then and has no position (NULL) before; see cancel(). ttl: sets expires_at, counted from when it falls due. Returns one row: id, position, deduplicated. Errors: TL005 names the field, TL007 too large, TL002 unknown topic, 42501 no right.';
