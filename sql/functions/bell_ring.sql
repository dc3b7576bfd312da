CREATE OR REPLACE FUNCTION @extschema@.bell_ring(topic_sequence regclass) RETURNS regclass LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
    -- A full queue would fail the commit; readers then fall back to polling. One expression with names in full: neither a
    -- search path to set and reset nor a statement, which were most of a ring.
    IF coalesce(pg_catalog.current_setting('trunkline.ring', true), '') OPERATOR(pg_catalog.<>) 'off'
       AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.9::pg_catalog.float8
       AND pg_catalog.pg_notify(pg_catalog.btrim('@extschema@', '"'), '') IS NULL
    THEN
        NULL; -- notified
    END IF;
    RETURN topic_sequence;
END $$;
COMMENT ON FUNCTION @extschema@.bell_ring(regclass) IS
    'Internal: next_position() found the bell armed: notify at commit. Returns its argument.';
