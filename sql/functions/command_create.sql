CREATE OR REPLACE FUNCTION @extschema@.command_create(
        aggregate text, type text, data jsonb DEFAULT NULL, id uuid DEFAULT NULL, expected_version bigint DEFAULT NULL,
        metadata jsonb DEFAULT NULL, tenant_id text DEFAULT NULL, topic text DEFAULT 'store')
    RETURNS uuid LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    new   @extschema@.commands;
    known @extschema@.commands;
BEGIN
    PERFORM @extschema@.check_stream(command_create.aggregate);
    IF coalesce(octet_length(command_create.type) NOT BETWEEN 1 AND 255, true) THEN
        PERFORM @extschema@.fail('TL005', 'type is not 1 to 255 bytes', '{"field": "type", "limit": 255}');
    ELSIF command_create.expected_version < -1 THEN
        PERFORM @extschema@.fail('TL005', 'expected_version is not NULL, -1, 0 or a version', '{"field": "expected_version", "limit": -1}');
    ELSIF octet_length(command_create.tenant_id) NOT BETWEEN 1 AND 255 THEN
        PERFORM @extschema@.fail('TL005', 'tenant_id is not 1 to 255 bytes', '{"field": "tenant_id", "limit": 255}');
    ELSIF jsonb_typeof(command_create.metadata) <> 'object' OR pg_column_size(command_create.metadata) > 65536 THEN
        PERFORM @extschema@.fail('TL005', 'metadata is not a JSON object of at most 65536 bytes', '{"field": "metadata", "limit": 65536}');
    END IF;
    INSERT INTO @extschema@.commands AS c (id, topic_id, aggregate, type, data, expected_version, metadata, tenant_id)
        VALUES (coalesce(command_create.id, gen_random_uuid()), @extschema@.topic_id_of(command_create.topic), command_create.aggregate, command_create.type,
            coalesce(command_create.data, 'null'), command_create.expected_version, command_create.metadata, command_create.tenant_id)
        ON CONFLICT (id) DO NOTHING RETURNING c.* INTO new;
    IF FOUND THEN
        RETURN new.id;
    END IF;
    SELECT c.* INTO known FROM @extschema@.commands c WHERE c.id = command_create.id;
    IF (known.topic_id, known.aggregate::text, known.type, known.data, known.expected_version, known.metadata::jsonb, known.tenant_id::text)
        IS DISTINCT FROM (@extschema@.topic_id_of(command_create.topic), command_create.aggregate, command_create.type, coalesce(command_create.data, 'null'),
            command_create.expected_version, command_create.metadata, command_create.tenant_id)
    THEN
        PERFORM @extschema@.fail('TL003', format('command %s was created before with other content', command_create.id),
            jsonb_build_object('field', 'id', 'id', command_create.id), 'Use a new id for a new command.');
    END IF;
    RETURN command_create.id;
END $$;
COMMENT ON FUNCTION @extschema@.command_create(text, text, jsonb, uuid, bigint, jsonb, text, text) IS
    'Queue a command for an aggregate, named as its stream; command_process() runs it. id: yours, for repeating the call: the same id and content is one command, other content is TL003; NULL: generated. expected_version: as in append(); NULL: the handler decides on any. metadata goes into that of the events. Returns the id. TL005 names the field, TL002 unknown topic, 42501 no right to append.';
