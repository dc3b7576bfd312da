CREATE OR REPLACE FUNCTION @extschema@.finish_all_changes() RETURNS TABLE (action text, object text, detail text)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s record;
BEGIN
    FOR s IN SELECT x.subscription_id, x.name, x.resize_at FROM @extschema@.subscriptions x
              WHERE x.resize_at IS NOT NULL OR x.drain_at IS NOT NULL AND x.active ORDER BY x.subscription_id
    LOOP
        BEGIN
            IF @extschema@.finish_changes(s.subscription_id) THEN
                RETURN QUERY SELECT CASE WHEN s.resize_at IS NULL THEN 'drained' ELSE 'resized' END, s.name, ''::text;
            END IF;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            RETURN QUERY SELECT 'skipped', s.name, SQLERRM; -- somebody is at it
        END;
    END LOOP;
END $$;
COMMENT ON FUNCTION @extschema@.finish_all_changes() IS 'Internal: maintain() for the drains and changes of slots that no claim has ended.';
