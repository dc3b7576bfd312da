CREATE OR REPLACE FUNCTION @extschema@.start_cursor(topic text, start_at text, field text DEFAULT 'start_at') RETURNS bigint
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lowest  bigint;
    highest bigint := @extschema@.horizon(topic);
    chosen  bigint;
    since   timestamptz;
BEGIN
    SELECT (min(l.leaf) << 30) INTO lowest
      FROM @extschema@.leaves l JOIN @extschema@.topics t USING (topic_id) WHERE t.name = start_cursor.topic;
    lowest := greatest(lowest - 1, 0);
    IF start_at = 'end' THEN
        RETURN highest;
    ELSIF start_at = 'beginning' THEN
        RETURN lowest;
    ELSIF start_at ~ '^[0-9]{1,18}$' THEN
        chosen := start_at::bigint;
        IF chosen NOT BETWEEN lowest AND highest THEN
            PERFORM @extschema@.fail('TL005', format('%s %s is not in the log, which begins after %s and is readable up to %s', field, start_at, lowest, highest),
                jsonb_build_object('field', field, 'lowest', lowest, 'highest', highest));
        END IF;
        RETURN chosen;
    END IF;
    BEGIN
        since := start_at::timestamptz;
    EXCEPTION WHEN data_exception THEN
        since := NULL;
    END;
    IF since IS NULL OR NOT isfinite(since) THEN
        PERFORM @extschema@.fail('TL005', field || ' is not end, beginning, a position or a time', jsonb_build_object('field', field));
    END IF;
    -- the slack of position_before() makes a reader begin early; at the end of a range it must not end early
    RETURN @extschema@.position_before(topic, since + CASE field WHEN 'end_at' THEN interval '1 s' ELSE interval '0' END, lowest, highest);
END $$;
COMMENT ON FUNCTION @extschema@.start_cursor(text, text, text) IS
    'Internal: the position after which a reader begins: end, beginning, a position, or the last event before a time; the same for field end_at, where a range ends. TL005 names the field.';
