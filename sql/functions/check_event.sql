CREATE OR REPLACE FUNCTION @extschema@.check_event(
        topic text, type text, data jsonb, key text, tenant_id text, source text, metadata jsonb)
    RETURNS void LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size integer := coalesce(pg_column_size(data), 0);
    size_limit integer;
    problem text := @extschema@.type_problem(type);
BEGIN
    IF problem IS NOT NULL THEN
        PERFORM @extschema@.fail('TL005', 'type ' || problem,
            jsonb_build_object('field', 'type', 'limit', 255), 'A type is 1 to 255 bytes of segments separated by dots, such as order.created.');
    END IF;
    IF octet_length(key) NOT BETWEEN 1 AND 255 THEN
        PERFORM @extschema@.fail('TL005', 'key is not 1 to 255 bytes', '{"field": "key", "limit": 255}');
    END IF;
    IF octet_length(tenant_id) NOT BETWEEN 1 AND 255 THEN
        PERFORM @extschema@.fail('TL005', 'tenant_id is not 1 to 255 bytes', '{"field": "tenant_id", "limit": 255}');
    END IF;
    IF octet_length(source) NOT BETWEEN 1 AND 255 THEN
        PERFORM @extschema@.fail('TL005', 'source is not 1 to 255 bytes', '{"field": "source", "limit": 255}');
    END IF;
    IF jsonb_typeof(metadata) <> 'object' THEN
        PERFORM @extschema@.fail('TL005', 'metadata is not a JSON object', '{"field": "metadata"}');
    END IF;
    IF pg_column_size(metadata) > 65536 THEN
        PERFORM @extschema@.fail('TL007', format('metadata of %s bytes is larger than the limit of 65536 bytes', pg_column_size(metadata)),
            jsonb_build_object('field', 'metadata', 'limit', 65536, 'actual', pg_column_size(metadata)));
    END IF;
    -- 1024 is the least limit a topic can have
    IF size > 1024 THEN
        SELECT t.max_event_bytes INTO size_limit FROM @extschema@.topics t WHERE t.name = topic;
        IF size > size_limit THEN
            PERFORM @extschema@.fail('TL007', format('data of %s bytes is larger than the limit of topic "%s", %s bytes', size, topic, size_limit),
                jsonb_build_object('field', 'data', 'limit', size_limit, 'actual', size),
                'Send less, or raise max_event_bytes with set_topic().');
        END IF;
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.check_event(text, text, jsonb, text, text, text, jsonb) IS
    'Internal: the constraints of events, as typed errors that name the field and the limit (TL005, TL007).';
