CREATE OR REPLACE FUNCTION @extschema@.grant_publish(grantee text, topic text DEFAULT 'bus') RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@.topic_id_of(topic);
    EXECUTE format('GRANT USAGE ON SCHEMA @extschema@ TO %I', grantee);
    -- not topic_id, position, created_at, stream, version: those no publisher can forge
    EXECUTE format('GRANT INSERT (id, type, source, key, tenant_id, data, metadata, expires_at), SELECT (id, "position") ON @extschema@.%I TO %I',
        'topic_' || topic, grantee);
    EXECUTE format('GRANT USAGE ON SEQUENCE @extschema@.%I TO %I', 'position_' || topic, grantee);
    EXECUTE format('GRANT SELECT ON @extschema@.topics, @extschema@.migrations, @extschema@.installed TO %I', grantee);
    -- not stream and version: those append() writes; earlier releases gave all
    EXECUTE format('REVOKE SELECT, INSERT ON @extschema@.dedup FROM %I', grantee);
    EXECUTE format('GRANT SELECT (topic_id, id, "position", digest, scheduled_id, version, created_at), INSERT (topic_id, id, "position", digest, scheduled_id)
        ON @extschema@.dedup TO %I', grantee);
    -- what of it concerns other topics is hidden by the policy of the table
    EXECUTE format('GRANT INSERT (topic_id, id, run_at, due_at, type, source, key, tenant_id, data, metadata, expires_at, ttl),
        SELECT (scheduled_id, topic_id, id, run_at, expires_at, ttl), UPDATE (run_at, due_at, expires_at, attempts, error), DELETE
        ON @extschema@.scheduled TO %I', grantee);
    EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.publish_later, @extschema@.due_time, @extschema@.later_id,
        @extschema@.event_digest, @extschema@.tell_due, @extschema@.due_channel, @extschema@.channel, @extschema@.cancel,
        @extschema@.reschedule, @extschema@.find_scheduled, @extschema@.locate TO %I', grantee);
    EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.publish, @extschema@.publish_checked, @extschema@.publish_once, @extschema@.made_at, @extschema@.publish_batch,
        @extschema@.check_event, @extschema@.check_size, @extschema@.type_problem, @extschema@.fail, @extschema@.topic_id_of,
        @extschema@.next_position, @extschema@.bell_ring, @extschema@.next_id TO %I', grantee);
END $$;
COMMENT ON FUNCTION @extschema@.grant_publish(text, text) IS
    'Let a role publish to a topic, by publish(), INSERT or COPY, and to cancel and reschedule its delayed events, and nothing else. Position, time, stream and version stay unforgeable. Needs the owner of the schema.';
