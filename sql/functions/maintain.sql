-- Everything that time asks for, in steps that never wait: a step that cannot have its lock within
-- 50 ms is reported and left to the next run. Run it as the owner of the schema.
CREATE OR REPLACE FUNCTION @extschema@.maintain() RETURNS TABLE (action text, object text, detail text)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '50ms' AS $$
DECLARE
    t @extschema@.topics;
BEGIN
    -- one at a time; the leader of the daemons holds another lock all the time, this is for callers by hand
    IF NOT pg_try_advisory_xact_lock(@extschema@.lock_class(), 4) THEN
        RETURN QUERY SELECT 'skipped', 'maintain', 'another session is at it';
        RETURN;
    END IF;
    FOR t IN SELECT * FROM @extschema@.topics ORDER BY topic_id LOOP
        BEGIN
            RETURN QUERY SELECT m.action, t.name, m.detail FROM @extschema@.maintain_topic(t) m;
        EXCEPTION WHEN lock_not_available OR deadlock_detected OR query_canceled THEN
            IF SQLSTATE = '57014' THEN
                RAISE;
            END IF;
            RETURN QUERY SELECT 'skipped', t.name, SQLERRM;
        END;
    END LOOP;
END $$;
COMMENT ON FUNCTION @extschema@.maintain() IS
    'Make leaves ahead, rotate, drop leaves past retention, forget old dedup ids, notice emptied unlogged topics. Returns what was done, held or skipped; nothing when there was nothing to do. Never waits longer than 50 ms for a lock. trunkline serve runs it; without a daemon run it by cron.';
