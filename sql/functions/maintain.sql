-- Everything that time asks for, in steps that never wait: a step that cannot have its lock within
-- 50 ms is reported and left to the next run, and a topic that fails does not stop the others.
-- Run it as the owner of the schema.
CREATE OR REPLACE FUNCTION @extschema@.maintain() RETURNS TABLE (action text, object text, detail text)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '50ms' AS $$
DECLARE
    step record;
    done record;
    n    integer;
BEGIN
    -- one at a time; the leader of the daemons holds another lock all the time, this is for callers by hand
    IF NOT pg_try_advisory_xact_lock(@extschema@.lock_class(), 4) THEN
        RETURN QUERY SELECT 'skipped', 'maintain', 'another session is at it';
        RETURN;
    END IF;
    -- first, since dropping a leaf holds its topic until the end
    FOR step IN SELECT f.name FROM (VALUES ('forget_settled'), ('finish_all_changes')) f(name) LOOP
        BEGIN
            RETURN QUERY EXECUTE format('SELECT action, object, detail FROM @extschema@.%I()', step.name);
        EXCEPTION
            WHEN lock_not_available OR deadlock_detected THEN
                RETURN QUERY SELECT 'skipped', step.name, SQLERRM;
            WHEN insufficient_privilege THEN
                RAISE;
            WHEN OTHERS THEN
                RETURN QUERY SELECT 'failed', step.name, SQLSTATE || ': ' || SQLERRM;
        END;
    END LOOP;
    FOR step IN SELECT t, t.name, retires FROM @extschema@.topics t, (VALUES (false), (true)) v(retires)
                 ORDER BY retires, t.topic_id
    LOOP
        BEGIN
            IF step.retires THEN
                SELECT * INTO done FROM @extschema@.retire_leaf(step.t);
                RETURN QUERY SELECT done.action, step.name, done.detail WHERE done.action IS NOT NULL;
                EXIT WHEN done.action = 'dropped'; -- its topic is locked now
            ELSE
                RETURN QUERY SELECT m.action, step.name, m.detail FROM @extschema@.maintain_topic(step.t) m;
            END IF;
        EXCEPTION
            WHEN lock_not_available OR deadlock_detected THEN
                RETURN QUERY SELECT 'skipped', step.name, SQLERRM;
            WHEN insufficient_privilege OR SQLSTATE 'TL005' THEN
                RAISE;
            WHEN OTHERS THEN
                RETURN QUERY SELECT 'failed', step.name, SQLSTATE || ': ' || SQLERRM;
        END;
    END LOOP;
    PERFORM @extschema@.publish_horizons();
    BEGIN
        RETURN QUERY SELECT m.action, 'inbox', m.detail FROM @extschema@.maintain_inbox() m;
    EXCEPTION WHEN data_exception OR SQLSTATE 'TL005' THEN
        RETURN QUERY SELECT 'failed', 'inbox', SQLSTATE || ': ' || SQLERRM;
    END;
    BEGIN
        RETURN QUERY SELECT m.action, 'webhooks', m.detail FROM @extschema@.maintain_webhooks() m;
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
        RETURN QUERY SELECT 'skipped', 'webhooks', SQLERRM;
    END;
    -- Late, since publishing here holds up the horizon until the end. A daemon has done it in time.
    BEGIN
        n := @extschema@.fire_schedules();
        RETURN QUERY SELECT 'fired', 'schedules', format('%s slots', n) WHERE n > 0;
        FOR batch IN 1 .. 10 LOOP
            n := @extschema@.move_due();
            RETURN QUERY SELECT 'moved', 'scheduled', format('%s events that were due', n) WHERE n > 0;
            EXIT WHEN n < 1000;
        END LOOP;
    EXCEPTION WHEN lock_not_available OR transaction_rollback THEN
        RETURN QUERY SELECT 'skipped', 'scheduled', SQLERRM;
    END;
END $$;
COMMENT ON FUNCTION @extschema@.maintain() IS
    'Make leaves ahead, rotate, forget old dedup ids and what once() was told, and dead letters and tracked deliveries settled 30 days ago, end drains and changes of slots, notice emptied unlogged topics, drop leaves past retention (one a call), fire schedules and move delayed events that are due, forget old attempts and expired keys of webhooks, publish horizons for standbys. Returns what was done, held, skipped or failed; nothing when there was nothing to do. Never waits longer than 50 ms for a lock. trunkline serve runs it; without a daemon run it by cron.';
