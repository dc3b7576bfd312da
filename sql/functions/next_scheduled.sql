CREATE OR REPLACE FUNCTION @extschema@.next_scheduled() RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    due timestamptz := least(
        (SELECT s.due_at FROM @extschema@.scheduled s ORDER BY s.due_at LIMIT 1),
        (SELECT r.due_at FROM @extschema@.schedules r WHERE r.active ORDER BY r.due_at LIMIT 1));
BEGIN
    -- greatest() passes over NULL, which here says "none"
    RETURN CASE WHEN due IS NOT NULL THEN greatest(0, ceil(extract(epoch FROM due - clock_timestamp()) * 1000000))::bigint END;
END $$;
COMMENT ON FUNCTION @extschema@.next_scheduled() IS
    'Microseconds until the next delayed event or schedule is due; 0: now, NULL: there is none.';
