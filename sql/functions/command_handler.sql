CREATE OR REPLACE FUNCTION @extschema@.command_handler(type text, function text) RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF coalesce(octet_length(command_handler.type) NOT BETWEEN 1 AND 255, true) THEN
        PERFORM @extschema@.fail('TL005', 'type is not 1 to 255 bytes', '{"field": "type", "limit": 255}');
    ELSIF command_handler.function IS NULL THEN
        DELETE FROM @extschema@.command_handlers h WHERE h.type = command_handler.type;
        RETURN;
    ELSIF @extschema@.function_named(command_handler.function, 'jsonb') IS NULL THEN
        PERFORM @extschema@.fail('TL005', 'function names no function (command jsonb) that returns jsonb', '{"field": "function"}',
            'Name it with its schema, such as app.create_user.');
    END IF;
    INSERT INTO @extschema@.command_handlers (type, function) VALUES (command_handler.type, command_handler.function)
        ON CONFLICT (type) DO UPDATE SET function = excluded.function, created_at = clock_timestamp();
END $$;
COMMENT ON FUNCTION @extschema@.command_handler(text, text) IS
    'Let commands of a type be decided by a function (command jsonb) returns jsonb, named with its schema; NULL: by none any more. It gets id, aggregate, type, data, metadata, tenant_id and version, that of the aggregate, and returns the events to append to it, as append() takes them, or NULL or [] for none; it refuses by raising SQLSTATE TL008. Called with the rights of whoever processes, so only the owner of the schema sets one. TL005 names the field.';
