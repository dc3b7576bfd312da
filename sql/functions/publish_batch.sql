CREATE OR REPLACE FUNCTION @extschema@.publish_batch(events jsonb, topic text DEFAULT 'bus')
    RETURNS TABLE (id uuid, "position" bigint, deduplicated boolean) LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    bad record;
    e   record;
BEGIN
    PERFORM @extschema@.topic_id_of(publish_batch.topic);
    IF coalesce(jsonb_typeof(events) <> 'array' OR jsonb_array_length(events) = 0, true) THEN
        PERFORM @extschema@.fail('TL005', 'events is not a JSON array of at least one event', '{"field": "events"}');
    END IF;
    SELECT * INTO bad FROM (
        SELECT a.i - 1 AS index, a.element, CASE
                WHEN jsonb_typeof(a.element) <> 'object' THEN 'is not an object'
                WHEN a.element - ARRAY['type', 'data', 'id', 'key', 'tenant_id', 'source', 'metadata', 'expires_at'] <> '{}'
                THEN 'has an unknown field "' || (SELECT left(min(k), 60) FROM jsonb_object_keys(
                        a.element - ARRAY['type', 'data', 'id', 'key', 'tenant_id', 'source', 'metadata', 'expires_at']) k) || '"'
                WHEN EXISTS (SELECT FROM unnest(ARRAY['type', 'id', 'key', 'tenant_id', 'source', 'expires_at']) f
                              WHERE jsonb_typeof(a.element -> f) NOT IN ('string', 'null'))
                THEN 'has a field that is not a string'
                WHEN a.element ->> 'id' !~* '^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$' THEN 'has an id that is no uuid'
            END AS problem
          FROM jsonb_array_elements(events) WITH ORDINALITY a(element, i)) checked
     WHERE checked.problem IS NOT NULL ORDER BY checked.index LIMIT 1;
    IF FOUND THEN
        PERFORM @extschema@.fail('TL005', format('event %s of the batch %s', bad.index, bad.problem),
            jsonb_build_object('field', 'events', 'index', bad.index));
    END IF;
    FOR e IN SELECT a.i - 1 AS index, r.*
               FROM jsonb_array_elements(events) WITH ORDINALITY a(element, i),
                    jsonb_to_record(a.element) AS r(type text, data jsonb, id uuid, key text, tenant_id text,
                        source text, metadata jsonb, expires_at timestamptz) ORDER BY a.i
    LOOP
        BEGIN
            PERFORM @extschema@.check_event(publish_batch.topic, e.type, e.data, e.key, e.tenant_id, e.source,
                nullif(e.metadata, 'null'));
        EXCEPTION WHEN SQLSTATE 'TL005' OR SQLSTATE 'TL007' THEN
            PERFORM @extschema@.fail(SQLSTATE, format('event %s of the batch: %s', e.index, SQLERRM),
                jsonb_build_object('field', 'events', 'index', e.index));
        END;
    END LOOP;
    IF jsonb_path_exists(events, '$[*].id ? (@ != null)') THEN
        RETURN QUERY
            SELECT p.id, p."position", p.deduplicated
              FROM jsonb_array_elements(events) WITH ORDINALITY a(element, i),
                   jsonb_to_record(a.element) AS r(type text, data jsonb, id uuid, key text, tenant_id text,
                        source text, metadata jsonb, expires_at timestamptz),
                   LATERAL @extschema@.publish(r.type, r.data, publish_batch.topic, r.id, r.key, r.tenant_id, r.source,
                        nullif(r.metadata, 'null'), r.expires_at) p
             ORDER BY a.i;
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format('INSERT INTO @extschema@.%I AS t (type, source, key, tenant_id, data, metadata, expires_at)
        SELECT r.type, r.source, r.key, r.tenant_id, coalesce(r.data, ''null''), nullif(r.metadata, ''null''), r.expires_at
          FROM jsonb_array_elements($1) WITH ORDINALITY a(element, i),
               jsonb_to_record(a.element) AS r(type text, data jsonb, key text, tenant_id text, source text,
                    metadata jsonb, expires_at timestamptz)
         ORDER BY a.i
        RETURNING t.id, t."position", false', 'topic_' || publish_batch.topic) USING events;
END $$;
COMMENT ON FUNCTION @extschema@.publish_batch(jsonb, text) IS
    'Publish a JSON array of events, all or none, in order: objects with the fields type, data, id, key, tenant_id, source, metadata, expires_at, as publish() takes them. Returns one row an event in the same order. Errors as publish(), with the index of the bad event in DETAIL.';
