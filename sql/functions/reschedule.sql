CREATE OR REPLACE FUNCTION @extschema@.reschedule(id uuid, run_at timestamptz, topic text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    number bigint;
    due    timestamptz;
BEGIN
    IF reschedule.run_at IS NULL THEN
        PERFORM @extschema@.fail('TL005', 'run_at is NULL', '{"field": "run_at"}');
    END IF;
    due := @extschema@.due_time(reschedule.run_at, NULL);
    LOOP -- moved or cancelled while we waited for its row: find_scheduled() says which
        number := @extschema@.find_scheduled(reschedule.id, reschedule.topic);
        UPDATE @extschema@.scheduled s
           SET run_at = due, due_at = due, expires_at = CASE WHEN s.ttl IS NULL THEN s.expires_at ELSE due + s.ttl END,
               attempts = 0, error = NULL
         WHERE s.scheduled_id = number;
        EXIT WHEN FOUND;
    END LOOP;
    PERFORM @extschema@.tell_due(due);
    RETURN true;
END $$;
COMMENT ON FUNCTION @extschema@.reschedule(uuid, timestamptz, text) IS
    'Change when a delayed event falls due; a time that has passed means now. An expiry given as ttl moves along. Returns true; errors as cancel(), and TL005 for run_at.';
