CREATE OR REPLACE FUNCTION @extschema@.check_event(
        topic text, type text, data jsonb, key text, tenant_id text, source text, metadata jsonb)
    RETURNS void LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
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
    PERFORM @extschema@.check_size(topic, pg_column_size(data));
END $$;
COMMENT ON FUNCTION @extschema@.check_event(text, text, jsonb, text, text, text, jsonb) IS
    'Internal: the constraints of events, as typed errors that name the field and the limit (TL005, TL007).';
