CREATE OR REPLACE FUNCTION @extschema@.publish_once(
        type text, data jsonb, topic text, event_id uuid, key text, tenant_id text, source text, metadata jsonb,
        expires_at timestamptz, ttl interval DEFAULT NULL, due timestamptz DEFAULT NULL)
    RETURNS TABLE (id uuid, "position" bigint, deduplicated boolean) LANGUAGE plpgsql VOLATILE ROWS 1
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    topic_number integer := @extschema@.topic_id_of(topic);
    content      uuid := @extschema@.event_digest(publish_once.type, publish_once.data, publish_once.key, publish_once.tenant_id,
                        publish_once.source, publish_once.metadata, publish_once.expires_at, publish_once.ttl);
    life_end     timestamptz := coalesce(publish_once.expires_at, coalesce(publish_once.due, clock_timestamp()) + publish_once.ttl);
    known        record;
    new_position bigint;
    new_number   bigint;
BEGIN
    -- dedup does not know the ids that next_id() made
    IF substr(publish_once.event_id::text, 15, 4) = to_hex(28672 | topic_number)
        AND @extschema@.made_at(publish_once.topic, publish_once.event_id) IS NOT NULL
        AND NOT EXISTS (SELECT FROM @extschema@.dedup d WHERE d.topic_id = topic_number AND d.id = publish_once.event_id)
    THEN
        PERFORM @extschema@.fail('TL003', format('event %s was stored before, with an id made for it', publish_once.event_id),
            jsonb_build_object('field', 'id', 'id', publish_once.event_id, 'reason', 'generated'),
            'Only a publish that was given its id can be repeated.');
    END IF;
    FOR attempt IN 1 .. 3 LOOP
        SELECT d."position", d.digest, d.version INTO known FROM @extschema@.dedup d
         WHERE d.topic_id = topic_number AND d.id = publish_once.event_id;
        IF FOUND THEN
            IF known.digest <> content OR known.version IS NOT NULL THEN
                PERFORM @extschema@.fail('TL003', format('event %s was %s before with other content', publish_once.event_id,
                        CASE WHEN known.version IS NULL THEN 'published' ELSE 'appended' END),
                    jsonb_build_object('field', 'id', 'id', publish_once.event_id, 'position', known."position"),
                    'Use a new id for a new event.');
            END IF;
            RETURN QUERY SELECT publish_once.event_id, known."position", true;
            RETURN;
        END IF;
        BEGIN
            IF publish_once.due IS NULL THEN
                EXECUTE format('INSERT INTO @extschema@.%I AS t (id, type, source, key, tenant_id, data, metadata, expires_at)
                    VALUES ($1, $2, $3, $4, $5, coalesce($6, ''null''), $7, $8) RETURNING t."position"', 'topic_' || publish_once.topic)
                    INTO new_position
                    USING publish_once.event_id, publish_once.type, publish_once.source, publish_once.key, publish_once.tenant_id,
                        publish_once.data, publish_once.metadata, life_end;
            ELSE
                -- locks the topic against drop_topic() until the end of the transaction
                EXECUTE format('SELECT "position" FROM @extschema@.%I LIMIT 0', 'topic_' || publish_once.topic);
                INSERT INTO @extschema@.scheduled AS s (topic_id, id, run_at, due_at, type, source, key, tenant_id, data, metadata, expires_at, ttl)
                    VALUES (topic_number, publish_once.event_id, publish_once.due, publish_once.due, publish_once.type,
                        publish_once.source, publish_once.key, publish_once.tenant_id, coalesce(publish_once.data, 'null'),
                        publish_once.metadata, life_end, publish_once.ttl)
                    RETURNING s.scheduled_id INTO new_number;
            END IF;
            INSERT INTO @extschema@.dedup (topic_id, id, "position", digest, scheduled_id)
                VALUES (topic_number, publish_once.event_id, new_position, content, new_number);
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
COMMENT ON FUNCTION @extschema@.publish_once(text, jsonb, text, uuid, text, text, text, jsonb, timestamptz, interval, timestamptz) IS
    'Internal: publish() of an event whose id is given, into the log or, with a due time, into scheduled.';
