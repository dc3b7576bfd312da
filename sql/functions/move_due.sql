-- Exactly once: an event leaves scheduled in the transaction that puts it into the log, and both
-- under the lock of its row, which cancel() and reschedule() wait for (models/schedule.pml).
CREATE OR REPLACE FUNCTION @extschema@.move_due(max_events integer DEFAULT 1000) RETURNS integer LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- one instant for all: what falls due while we look must not come before what did so a little earlier
    instant constant timestamptz := clock_timestamp();
    batch   record;
    number  bigint;
    moved   integer := 0;
BEGIN
    IF coalesce(max_events NOT BETWEEN 1 AND 10000, true) THEN
        PERFORM @extschema@.fail('TL005', 'max_events is not 1 to 10000', '{"field": "max_events", "limit": 10000}');
    END IF;
    -- two at a time would interleave their batches, and so break the order of due times
    IF NOT pg_try_advisory_xact_lock(@extschema@.lock_class(), 5) THEN
        RETURN 0;
    END IF;
    FOR batch IN
        SELECT d.topic_id, array_agg(d.scheduled_id) AS numbers FROM (
            SELECT s.topic_id, s.scheduled_id FROM @extschema@.scheduled s
             WHERE s.due_at <= instant
             ORDER BY s.due_at, s.scheduled_id LIMIT max_events
               FOR UPDATE SKIP LOCKED) d -- locked: being cancelled or rescheduled
         GROUP BY d.topic_id ORDER BY d.topic_id
    LOOP
        BEGIN
            PERFORM @extschema@.move_events(batch.topic_id, batch.numbers);
            moved := moved + cardinality(batch.numbers);
        EXCEPTION
            WHEN lock_not_available OR transaction_rollback THEN
                RAISE; -- nothing is wrong with the events
            WHEN OTHERS THEN -- with at least one of them: it must not hold up the others
                FOREACH number IN ARRAY batch.numbers LOOP
                    BEGIN
                        PERFORM @extschema@.move_events(batch.topic_id, ARRAY[number]);
                        moved := moved + 1;
                    EXCEPTION
                        WHEN lock_not_available OR transaction_rollback THEN
                            RAISE;
                        WHEN OTHERS THEN
                            UPDATE @extschema@.scheduled s
                               SET attempts = s.attempts + 1, error = SQLSTATE || ': ' || SQLERRM,
                                   due_at = clock_timestamp() + interval '1 min'
                             WHERE s.scheduled_id = number;
                    END;
                END LOOP;
        END;
    END LOOP;
    RETURN moved;
END $$;
COMMENT ON FUNCTION @extschema@.move_due(integer) IS
    'Move events that are due from scheduled into the log, at most max_events (1 to 10000), in the order of due times and then of scheduling. One session at a time, others get 0 at once. An event that the log refuses stays with its error and is tried again every minute. Returns how many were moved. The leader of trunkline serve calls it in time; without a daemon maintain() does.';
