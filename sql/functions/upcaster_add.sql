CREATE OR REPLACE FUNCTION @extschema@.upcaster_add(type text, schema_version integer, function text) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF @extschema@.type_problem(upcaster_add.type) IS NOT NULL THEN
        PERFORM @extschema@.fail('TL005', 'type ' || @extschema@.type_problem(upcaster_add.type), '{"field": "type", "limit": 255}');
    ELSIF coalesce(upcaster_add.schema_version NOT BETWEEN 1 AND 999999999, true) THEN
        PERFORM @extschema@.fail('TL005', 'schema_version is not 1 to 999999999', '{"field": "schema_version", "limit": 999999999}');
    ELSIF @extschema@.function_named(upcaster_add.function, 'jsonb,jsonb') IS NULL THEN
        PERFORM @extschema@.fail('TL005', 'function names no function (data jsonb, metadata jsonb) that returns jsonb', '{"field": "function"}',
            'Name it with its schema, such as app.order_v1_to_v2.');
    END IF;
    INSERT INTO @extschema@.upcasters (type, schema_version, function)
        VALUES (upcaster_add.type, upcaster_add.schema_version, upcaster_add.function)
        ON CONFLICT (type, schema_version) DO UPDATE SET function = excluded.function, created_at = clock_timestamp();
END $$;
COMMENT ON FUNCTION @extschema@.upcaster_add(text, integer, text) IS
    'From now on, reads with upcast => true bring data of this event type from schema_version to the next one by a function (data jsonb, metadata jsonb) returns jsonb, named with its schema; one upcaster follows the other. The events are not changed. Called with the rights of whoever reads, so only the owner of the schema adds one. The same version again: the new function counts. TL005 names the field.';
