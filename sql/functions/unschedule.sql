CREATE OR REPLACE FUNCTION @extschema@.unschedule(name text) RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM @extschema@.schedules s WHERE s.name = unschedule.name;
    IF NOT FOUND THEN
        PERFORM @extschema@.fail('TL002', format('schedule "%s" does not exist', left(unschedule.name, 100)),
            jsonb_build_object('field', 'name', 'value', left(unschedule.name, 100)));
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.unschedule(text) IS
    'Remove a recurring schedule. Events that it fired stay. Needs the owner of the schema. TL002.';
