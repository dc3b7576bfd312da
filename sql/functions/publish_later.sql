CREATE OR REPLACE FUNCTION @extschema@.publish_later(
        type text, data jsonb, topic text, event_id uuid, key text, tenant_id text, source text, metadata jsonb,
        expires_at timestamptz, run_at timestamptz, delay interval, ttl interval)
    RETURNS TABLE (id uuid, "position" bigint, deduplicated boolean) LANGUAGE plpgsql VOLATILE ROWS 1
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    due timestamptz := @extschema@.due_time(publish_later.run_at, publish_later.delay, publish_later.ttl,
        publish_later.expires_at);
BEGIN
    PERFORM @extschema@.check_event(publish_later.topic, publish_later.type, publish_later.data, publish_later.key,
        publish_later.tenant_id, publish_later.source, publish_later.metadata);
    IF due > clock_timestamp() THEN
        RETURN QUERY SELECT p.id, p."position", p.deduplicated
            FROM @extschema@.publish_once(publish_later.type, publish_later.data, publish_later.topic,
                coalesce(publish_later.event_id, @extschema@.later_id(@extschema@.topic_id_of(publish_later.topic))),
                publish_later.key, publish_later.tenant_id, publish_later.source, publish_later.metadata,
                publish_later.expires_at, publish_later.ttl, due) p;
        PERFORM @extschema@.tell_due(due);
    ELSIF publish_later.event_id IS NOT NULL THEN
        RETURN QUERY SELECT p.id, p."position", p.deduplicated
            FROM @extschema@.publish_once(publish_later.type, publish_later.data, publish_later.topic, publish_later.event_id,
                publish_later.key, publish_later.tenant_id, publish_later.source, publish_later.metadata,
                publish_later.expires_at, publish_later.ttl) p;
    ELSE
        RETURN QUERY SELECT p.id, p."position", p.deduplicated
            FROM @extschema@.publish(publish_later.type, publish_later.data, publish_later.topic, NULL, publish_later.key,
                publish_later.tenant_id, publish_later.source, publish_later.metadata,
                coalesce(publish_later.expires_at, clock_timestamp() + publish_later.ttl)) p;
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.publish_later(text, jsonb, text, uuid, text, text, text, jsonb, timestamptz, timestamptz, interval, interval) IS
    'Internal: publish() with run_at, delay or ttl. Everything about the event is checked now, so that moving it later can fail for reasons outside of it only.';
