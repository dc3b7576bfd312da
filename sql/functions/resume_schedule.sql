CREATE OR REPLACE FUNCTION @extschema@.resume_schedule(name text) RETURNS timestamptz LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    old   @extschema@.schedules;
    first timestamptz;
BEGIN
    SELECT * INTO old FROM @extschema@.schedules s WHERE s.name = resume_schedule.name FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM @extschema@.fail('TL002', format('schedule "%s" does not exist', left(resume_schedule.name, 100)),
            jsonb_build_object('field', 'name', 'value', left(resume_schedule.name, 100)));
    ELSIF old.active THEN
        RETURN old.next_at;
    END IF;
    first := @extschema@.next_fire(old.cron, old.timezone);
    UPDATE @extschema@.schedules s SET active = true, next_at = first, due_at = first, error = NULL, updated_at = clock_timestamp()
     WHERE s.schedule_id = old.schedule_id;
    PERFORM @extschema@.tell_due(first);
    RETURN first;
END $$;
COMMENT ON FUNCTION @extschema@.resume_schedule(text) IS
    'Let a paused schedule fire again; slots that passed meanwhile do not count as missed. Returns when it fires next. Needs the owner of the schema. TL002.';
