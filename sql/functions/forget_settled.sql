CREATE OR REPLACE FUNCTION @extschema@.forget_settled() RETURNS TABLE (action text, object text, detail text)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n bigint;
BEGIN
    DELETE FROM @extschema@.dead_letters d WHERE d.dead_letter_id IN (
        SELECT x.dead_letter_id FROM @extschema@.dead_letters x
         WHERE x.state <> 'dead' AND x.settled_at < clock_timestamp() - interval '30 days'
         ORDER BY x.settled_at LIMIT 10000 FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n > 0 THEN
        RETURN QUERY SELECT 'forgot', 'dead_letters', format('%s settled more than 30 days ago', n);
    END IF;
    DELETE FROM @extschema@.deliveries d USING (
        SELECT x.subscription_id, x."position" FROM @extschema@.deliveries x
         WHERE x.completed_at < clock_timestamp() - interval '30 days'
         ORDER BY x.completed_at LIMIT 10000 FOR UPDATE SKIP LOCKED) old
     WHERE d.subscription_id = old.subscription_id AND d."position" = old."position";
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n > 0 THEN
        RETURN QUERY SELECT 'forgot', 'deliveries', format('%s ended more than 30 days ago', n);
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.forget_settled() IS
    'Internal: maintain() for what 30 days are long enough to keep: dead letters that somebody dealt with, tracked deliveries that ended. 10000 of each a call.';
