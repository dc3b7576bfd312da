CREATE OR REPLACE FUNCTION @extschema@.publish_once(
        type text, data jsonb, topic text, event_id uuid, key text, tenant_id text, source text, metadata jsonb,
        expires_at timestamptz)
    RETURNS TABLE (id uuid, "position" bigint, deduplicated boolean) LANGUAGE plpgsql VOLATILE ROWS 1
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    topic_number integer := @extschema@.topic_id_of(topic);
    content      uuid := md5(jsonb_build_array(publish_once.type, publish_once.data, publish_once.key,
                        publish_once.tenant_id, publish_once.source, publish_once.metadata,
                        extract(epoch FROM publish_once.expires_at))::text)::uuid;
    known        @extschema@.dedup;
    new_position bigint;
BEGIN
    FOR attempt IN 1 .. 3 LOOP
        SELECT d.* INTO known FROM @extschema@.dedup d
         WHERE d.topic_id = topic_number AND d.id = publish_once.event_id;
        IF FOUND THEN
            IF known.digest <> content THEN
                PERFORM @extschema@.fail('TL003', format('event %s was published before with other content', publish_once.event_id),
                    jsonb_build_object('field', 'id', 'id', publish_once.event_id, 'position', known."position"),
                    'Use a new id for a new event.');
            END IF;
            RETURN QUERY SELECT publish_once.event_id, known."position", true;
            RETURN;
        END IF;
        BEGIN
            EXECUTE format('INSERT INTO @extschema@.%I AS t (id, type, source, key, tenant_id, data, metadata, expires_at)
                VALUES ($1, $2, $3, $4, $5, coalesce($6, ''null''), $7, $8) RETURNING t."position"', 'topic_' || publish_once.topic)
                INTO new_position
                USING publish_once.event_id, publish_once.type, publish_once.source, publish_once.key, publish_once.tenant_id,
                    publish_once.data, publish_once.metadata, publish_once.expires_at;
            INSERT INTO @extschema@.dedup (topic_id, id, "position", digest)
                VALUES (topic_number, publish_once.event_id, new_position, content);
            RETURN QUERY SELECT publish_once.event_id, new_position, false;
            RETURN;
        EXCEPTION WHEN unique_violation THEN
            -- somebody published the id meanwhile: what we inserted is undone, look again
            NULL;
        END;
    END LOOP;
    RAISE serialization_failure USING MESSAGE = 'another transaction published the same id meanwhile',
        HINT = 'Repeat the transaction.';
END $$;
COMMENT ON FUNCTION @extschema@.publish_once(text, jsonb, text, uuid, text, text, text, jsonb, timestamptz) IS
    'Internal: publish() with an id supplied by the caller.';
