CREATE OR REPLACE FUNCTION @extschema@.bell_ring(topic_sequence regclass) RETURNS regclass LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- a full queue would fail the commit; readers then fall back to polling
    IF coalesce(current_setting('trunkline.ring', true), '') <> 'off' AND pg_notification_queue_usage() < 0.9 THEN
        PERFORM pg_notify(btrim('@extschema@', '"'), '');
    END IF;
    RETURN topic_sequence;
END $$;
COMMENT ON FUNCTION @extschema@.bell_ring(regclass) IS
    'Internal: next_position() found the bell armed: notify at commit. Returns its argument.';
