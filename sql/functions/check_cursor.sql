-- Against the last value and not the horizon: the horizon may fall back for a moment, when a writer that
-- took its number early registers late.
CREATE OR REPLACE FUNCTION @extschema@.check_cursor(topic text, cursor bigint) RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    topic_sequence regclass := '@extschema@.position_' || topic;
    lowest  bigint;
    highest bigint := coalesce(pg_sequence_last_value(topic_sequence), @extschema@.sequence_denied(topic_sequence));
BEGIN
    SELECT greatest((min(l.leaf) << 30) - 1, 0) INTO lowest
      FROM @extschema@.leaves l JOIN @extschema@.topics t USING (topic_id) WHERE t.name = check_cursor.topic;
    IF coalesce(cursor < 0 OR cursor > highest OR cursor > 0 AND cursor < lowest, true) THEN
        PERFORM @extschema@.fail('TL005', format('position %s is not in the log of topic "%s", which begins after %s and ends with %s',
                coalesce(cursor::text, 'NULL'), topic, lowest, highest),
            jsonb_build_object('field', 'after', 'lowest', lowest, 'highest', highest),
            CASE WHEN cursor > highest THEN 'The log lost its end, by a failover or a restore: decide where to go on.' ELSE '' END);
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.check_cursor(text, bigint) IS
    'Internal: TL005 for the cursor of a reader that is beyond the end of the log, or whose next events were retired; 0 is the beginning, wherever that is.';
