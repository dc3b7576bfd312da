-- Commits with a NOTIFY take turns, fsync included. So only for what is due before the mover can be
-- relied on to have looked by itself, which it does every second: a transaction that stays open
-- for a minute after it published may see its event moved a second late.
CREATE OR REPLACE FUNCTION @extschema@.tell_due(due timestamptz) RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- as in next_position(): a full queue would fail the commit, a prepared transaction must not notify
    IF due < clock_timestamp() + interval '1 min' AND pg_notification_queue_usage() < 0.9
       AND current_setting('trunkline.ring', true) IS DISTINCT FROM 'off'
    THEN
        PERFORM pg_notify(@extschema@.due_channel(), '');
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.tell_due(timestamptz) IS
    'Internal: wake who moves due events, at the commit, if the time is near.';
