-- One firing a slot over all daemons: the events and the step of next_at commit together under the
-- lock of the row. The id of an event follows from schedule and slot, so that a database that was
-- set back fires no slot twice whose event is still in the dedup window.
CREATE OR REPLACE FUNCTION @extschema@.fire_schedules() RETURNS integer LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s         @extschema@.schedules;
    slots     timestamptz[];
    slot      timestamptz;
    moment    timestamptz;
    following timestamptz;
    fired     integer := 0;
BEGIN
    FOR s IN SELECT x.* FROM @extschema@.schedules x WHERE x.active AND x.due_at <= clock_timestamp()
              ORDER BY x.due_at, x.schedule_id LIMIT 100 FOR UPDATE SKIP LOCKED
    LOOP
        BEGIN
            moment := clock_timestamp();
            slots := @extschema@.due_slots(s, moment);
            FOREACH slot IN ARRAY slots LOOP
                PERFORM @extschema@.fire_slot(s, slot);
            END LOOP;
            following := @extschema@.next_fire(s.cron, s.timezone, moment);
            UPDATE @extschema@.schedules x
               SET last_at = coalesce(slots[cardinality(slots)], x.last_at), next_at = following, due_at = following,
                   fired = x.fired + cardinality(slots), error = NULL
             WHERE x.schedule_id = s.schedule_id;
            fired := fired + cardinality(slots);
        EXCEPTION
            WHEN lock_not_available OR transaction_rollback THEN
                RAISE;
            WHEN OTHERS THEN -- must not hold up the others
                UPDATE @extschema@.schedules x
                   SET error = SQLSTATE || ': ' || SQLERRM, due_at = clock_timestamp() + interval '1 min'
                 WHERE x.schedule_id = s.schedule_id;
        END;
    END LOOP;
    RETURN fired;
END $$;
COMMENT ON FUNCTION @extschema@.fire_schedules() IS
    'Publish the events of schedules that are due, at most 100 schedules a call, each slot once whoever calls it at the same time. A schedule that fails keeps its slot and its error and is tried again every minute. Returns how many slots fired. The leader of trunkline serve calls it in time; without a daemon maintain() does.';
