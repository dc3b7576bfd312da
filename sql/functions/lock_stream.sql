CREATE OR REPLACE FUNCTION @extschema@.lock_stream(topic_id integer, stream text, expected bigint, events integer, tenant_id text,
        OUT base bigint, OUT owner text, OUT is_new boolean, OUT reason text)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s @extschema@.streams;
BEGIN
    is_new := false;
    LOOP
        IF events > 0 THEN
            SELECT x.* INTO s FROM @extschema@.streams x
             WHERE x.topic_id = lock_stream.topic_id AND x.stream = lock_stream.stream FOR NO KEY UPDATE;
        ELSE
            SELECT x.* INTO s FROM @extschema@.streams x
             WHERE x.topic_id = lock_stream.topic_id AND x.stream = lock_stream.stream FOR SHARE;
        END IF;
        IF FOUND THEN
            IF s.tenant_id IS DISTINCT FROM lock_stream.tenant_id AND lock_stream.tenant_id IS NOT NULL
                AND NOT (s.version = 0 AND s.tenant_id IS NULL)
            THEN
                PERFORM @extschema@.fail('42501', format('stream "%s" is not of tenant "%s"', lock_stream.stream, lock_stream.tenant_id),
                    jsonb_build_object('field', 'tenant_id', 'stream', lock_stream.stream));
            END IF;
            base := s.version;
            owner := coalesce(s.tenant_id, lock_stream.tenant_id);
            reason := CASE
                WHEN s.state = 'tombstone' THEN 'tombstone'
                WHEN expected IS NULL OR expected = s.version THEN NULL
                WHEN s.state = 'deleted' THEN CASE WHEN expected <> 0 THEN 'deleted' END
                WHEN expected = -1 AND s.version > 0 THEN NULL
                ELSE 'version' END;
            RETURN;
        END IF;
        base := 0;
        owner := lock_stream.tenant_id;
        IF expected <> 0 OR events = 0 AND expected IS NULL THEN
            reason := CASE WHEN expected <> 0 THEN 'version' END;
            RETURN;
        END IF;
        -- its row is the lock, also for who only looks
        INSERT INTO @extschema@.streams (topic_id, stream, version, tenant_id, after_position)
            VALUES (lock_stream.topic_id, lock_stream.stream, events, lock_stream.tenant_id, @extschema@.stream_begin(lock_stream.topic_id)) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            is_new := true;
            RETURN;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION @extschema@.lock_stream(integer, text, bigint, integer, text) IS
    'Internal: lock a stream for so many events, 0: only to look, and see whether it is as expected: its version and tenant, whether it was made here with the new version, and why not (version, deleted, tombstone; NULL: as expected). 42501: of another tenant.';
