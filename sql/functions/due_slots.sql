CREATE OR REPLACE FUNCTION @extschema@.due_slots(s @extschema@.schedules, upto timestamptz) RETURNS timestamptz[]
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    slots timestamptz[] := ARRAY[s.next_at];
    probe timestamptz;
BEGIN
    IF s.missed <> 'all' THEN
        probe := @extschema@.last_fire(s.cron, s.timezone, s.next_at, upto);
        RETURN CASE WHEN s.missed = 'once' OR probe > upto - interval '1 min' THEN ARRAY[probe] ELSE '{}' END;
    END IF;
    LOOP
        probe := @extschema@.next_fire(s.cron, s.timezone, slots[cardinality(slots)]);
        EXIT WHEN probe > upto;
        slots := slots || probe;
        IF cardinality(slots) > s.max_missed THEN -- from the end, then
            slots := ARRAY[@extschema@.last_fire(s.cron, s.timezone, probe, upto)];
            WHILE cardinality(slots) < s.max_missed LOOP
                slots := @extschema@.last_fire(s.cron, s.timezone, s.next_at, slots[1] - interval '1 us') || slots;
            END LOOP;
            EXIT;
        END IF;
    END LOOP;
    RETURN slots;
END $$;
COMMENT ON FUNCTION @extschema@.due_slots(@extschema@.schedules, timestamptz) IS
    'Internal: which slots of a schedule fire now that next_at has come, by its policy for missed ones, oldest first. skip lets a slot be a minute late: a new leader takes seconds.';
