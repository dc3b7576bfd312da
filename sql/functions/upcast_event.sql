CREATE OR REPLACE FUNCTION @extschema@.upcast_event(type text, INOUT data jsonb, INOUT metadata jsonb)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    number integer := 1;
    u      @extschema@.upcasters;
    f      regprocedure;
BEGIN
    IF metadata ? 'schema_version' THEN
        IF metadata ->> 'schema_version' !~ '^[1-9][0-9]{0,8}$' THEN
            RETURN; -- not as we count
        END IF;
        number := metadata ->> 'schema_version';
    END IF;
    LOOP
        SELECT * INTO u FROM @extschema@.upcasters x WHERE x.type = upcast_event.type AND x.schema_version = number;
        -- of a redacted event there is nothing left to bring into another form
        EXIT WHEN NOT FOUND OR metadata ? 'redacted';
        f := @extschema@.function_named(u.function, 'jsonb,jsonb');
        IF f IS NULL THEN
            RAISE undefined_function USING MESSAGE = format('upcaster %s(jsonb,jsonb) of type "%s", version %s, is gone', u.function, type, number),
                HINT = 'Create it again, or take it out with upcaster_remove().';
        END IF;
        EXECUTE format('SELECT %s($1, $2)', f::oid::regproc) INTO data USING data, metadata;
        IF data IS NULL THEN
            PERFORM @extschema@.fail('TL008', format('upcaster %s of type "%s", version %s, gave NULL', u.function, type, number),
                jsonb_build_object('type', type, 'schema_version', number, 'function', u.function));
        END IF;
        number := number + 1;
        metadata := coalesce(metadata, '{}') || jsonb_build_object('schema_version', number);
    END LOOP;
END $$;
COMMENT ON FUNCTION @extschema@.upcast_event(text, jsonb, jsonb) IS
    'Internal: data and metadata of an event after all upcasters that apply, one schema version after the other. metadata.schema_version says where it begins: absent is 1, what is no positive integer is left alone, and so is a redacted event.';
