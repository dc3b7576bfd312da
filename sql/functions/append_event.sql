-- The plain path is one UPDATE, which locks the stream and checks its version, and one INSERT. As in
-- publish() every function and operator names its schema and there is no search_path of its own;
-- tests/sql/hostile_path.t runs it among impostors. Whatever is not plain, or not right, goes to
-- append_one(), which begins anew. ROWS 1: see publish().
CREATE OR REPLACE FUNCTION @extschema@.append_event(stream text, type text, data jsonb, expected_version bigint DEFAULT NULL,
        event_id uuid DEFAULT NULL, metadata jsonb DEFAULT NULL, source text DEFAULT NULL, tenant_id text DEFAULT NULL,
        topic text DEFAULT 'store')
    RETURNS SETOF @extschema@.appended LANGUAGE plpgsql VOLATILE SECURITY DEFINER ROWS 1 AS $$
DECLARE
    new_version bigint;
    owner       pg_catalog.text;
BEGIN
    IF append_event.topic OPERATOR(pg_catalog.=) 'store'
        AND append_event.type OPERATOR(pg_catalog.!~~) ALL ('{"", .%, %., %..%, %*%}')
        AND greatest(pg_catalog.octet_length(append_event.type), pg_catalog.octet_length(append_event.source)) OPERATOR(pg_catalog.<=) 255
        AND coalesce(append_event.source OPERATOR(pg_catalog.<>) '', true)
        AND coalesce(pg_catalog.jsonb_typeof(append_event.metadata) OPERATOR(pg_catalog.=) 'object'
            AND pg_catalog.pg_column_size(append_event.metadata) OPERATOR(pg_catalog.<=) 65536, true)
        AND append_event.data IS NOT NULL
        -- else perhaps made by next_id(), for an event that is there: append_core() looks
        AND coalesce(pg_catalog.substr(append_event.event_id::pg_catalog.text, 15, 4) OPERATOR(pg_catalog.<>) '7002', true)
        -- caller(), see there
        AND pg_catalog.has_column_privilege(
            CASE WHEN pg_catalog.current_setting('role') OPERATOR(pg_catalog.=) 'none' THEN session_user::pg_catalog.text
                 ELSE pg_catalog.current_setting('role') END, '@extschema@.topic_store', 'stream', 'REFERENCES')
    THEN
        -- 1024 is the least limit a topic can have
        IF pg_catalog.pg_column_size(append_event.data) OPERATOR(pg_catalog.>) 1024 THEN
            PERFORM @extschema@.check_size('store', pg_catalog.pg_column_size(append_event.data));
        END IF;
        -- topic 2 is store: zz_builtin_topics.sql
        UPDATE @extschema@.streams AS s SET version = s.version OPERATOR(pg_catalog.+) 1, updated_at = pg_catalog.clock_timestamp()
         WHERE s.topic_id OPERATOR(pg_catalog.=) 2 AND s.stream OPERATOR(pg_catalog.=) append_event.stream
           AND s.state OPERATOR(pg_catalog.=) 'open'
           AND (append_event.expected_version IS NULL OR s.version OPERATOR(pg_catalog.=) append_event.expected_version
                OR append_event.expected_version OPERATOR(pg_catalog.=) -1 AND s.version OPERATOR(pg_catalog.>) 0)
           AND (append_event.tenant_id IS NULL OR s.tenant_id OPERATOR(pg_catalog.=) append_event.tenant_id)
        RETURNING s.version, s.tenant_id INTO new_version, owner;
        IF new_version IS NULL THEN
            IF coalesce(append_event.expected_version, 0) OPERATOR(pg_catalog.=) 0 THEN
                -- check_stream(), see there
                IF pg_catalog.octet_length(append_event.stream) OPERATOR(pg_catalog.<=) 255
                    AND append_event.stream OPERATOR(pg_catalog.<>) ''
                    AND append_event.stream OPERATOR(pg_catalog.!~) E'[\\u0001-\\u001f\\u007f]'
                    AND coalesce(append_event.tenant_id OPERATOR(pg_catalog.<>) ''
                        AND pg_catalog.octet_length(append_event.tenant_id) OPERATOR(pg_catalog.<=) 255, true)
                THEN
                    INSERT INTO @extschema@.streams AS s (topic_id, stream, version, tenant_id)
                        VALUES (2, append_event.stream, 1, append_event.tenant_id) ON CONFLICT DO NOTHING
                        RETURNING s.version, s.tenant_id INTO new_version, owner;
                END IF;
            ELSIF append_event.expected_version OPERATOR(pg_catalog.>) 0 AND append_event.event_id IS NULL THEN
                -- the common way to lose, made short
                PERFORM @extschema@.conflict(append_event.stream, append_event.expected_version, s.version, 'version')
                   FROM @extschema@.streams s
                  WHERE s.topic_id OPERATOR(pg_catalog.=) 2 AND s.stream OPERATOR(pg_catalog.=) append_event.stream
                    AND s.state OPERATOR(pg_catalog.=) 'open' AND s.version OPERATOR(pg_catalog.<>) append_event.expected_version
                    AND (append_event.tenant_id IS NULL OR s.tenant_id OPERATOR(pg_catalog.=) append_event.tenant_id);
            END IF;
        END IF;
        IF new_version IS NOT NULL AND append_event.event_id IS NOT NULL THEN
            -- event_digest(), see there, with neither key nor tenant: that is the stream's
            INSERT INTO @extschema@.dedup (topic_id, id, digest, stream, version)
                VALUES (2, append_event.event_id, pg_catalog.md5(pg_catalog.jsonb_build_array(append_event.type, append_event.data, NULL, NULL,
                    append_event.source, append_event.metadata, NULL)::pg_catalog.text)::pg_catalog.uuid, append_event.stream, new_version)
                ON CONFLICT DO NOTHING;
            IF FOUND THEN
                RETURN QUERY INSERT INTO @extschema@.topic_store AS e (type, source, stream, version, key, tenant_id, data, metadata, id)
                    VALUES (append_event.type, append_event.source, append_event.stream, new_version, append_event.stream, owner,
                        append_event.data, append_event.metadata, append_event.event_id)
                    RETURNING e.id, e.version, e."position", false;
                RETURN;
            END IF;
            -- known: leave the stream as it was; of a new one it is not known, so append_one() raises
            UPDATE @extschema@.streams AS s SET version = new_version OPERATOR(pg_catalog.-) 1
             WHERE s.topic_id OPERATOR(pg_catalog.=) 2 AND s.stream OPERATOR(pg_catalog.=) append_event.stream;
        ELSIF new_version IS NOT NULL THEN
            -- a NULL that is given is checked, which costs as much as a value
            IF append_event.source IS NULL AND append_event.metadata IS NULL AND owner IS NULL THEN
                RETURN QUERY INSERT INTO @extschema@.topic_store AS e (type, stream, version, key, data)
                    VALUES (append_event.type, append_event.stream, new_version, append_event.stream, append_event.data)
                    RETURNING e.id, e.version, e."position", false;
            ELSE
                RETURN QUERY INSERT INTO @extschema@.topic_store AS e (type, source, stream, version, key, tenant_id, data, metadata)
                    VALUES (append_event.type, append_event.source, append_event.stream, new_version, append_event.stream, owner,
                        append_event.data, append_event.metadata)
                    RETURNING e.id, e.version, e."position", false;
            END IF;
            RETURN;
        END IF;
    END IF;
    RETURN QUERY SELECT a.id, a.version, a."position", a.deduplicated
        FROM @extschema@.append_one(append_event.stream, append_event.type, append_event.data, append_event.expected_version,
            append_event.event_id, append_event.metadata, append_event.source, append_event.tenant_id, append_event.topic) a;
END $$;
COMMENT ON FUNCTION @extschema@.append_event(text, text, jsonb, bigint, uuid, jsonb, text, text, text) IS
    'Append one event to a stream, in the caller''s transaction; the fastest way to append. Arguments as those of append(); data NULL is JSON null. event_id: yours, for repeating an append safely.';
