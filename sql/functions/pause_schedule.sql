CREATE OR REPLACE FUNCTION @extschema@.pause_schedule(name text) RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE @extschema@.schedules s SET active = false, updated_at = clock_timestamp() WHERE s.name = pause_schedule.name;
    IF NOT FOUND THEN
        PERFORM @extschema@.fail('TL002', format('schedule "%s" does not exist', left(pause_schedule.name, 100)),
            jsonb_build_object('field', 'name', 'value', left(pause_schedule.name, 100)));
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.pause_schedule(text) IS
    'Stop a recurring schedule from firing until resume_schedule(). Needs the owner of the schema. TL002.';
