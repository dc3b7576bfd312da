CREATE OR REPLACE FUNCTION @extschema@.maintain_webhooks() RETURNS TABLE (action text, detail text) LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n bigint;
BEGIN
    DELETE FROM @extschema@.webhook_secrets w WHERE w.expires_at < clock_timestamp();
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n > 0 THEN
        RETURN QUERY SELECT 'forgot', format('%s secrets past their grace', n);
    END IF;
    DELETE FROM @extschema@.delivery_attempts a WHERE a.attempt_id IN (
        SELECT x.attempt_id FROM @extschema@.delivery_attempts x WHERE x.started_at < clock_timestamp() - interval '30 days'
         ORDER BY x.started_at LIMIT 50000);
    GET DIAGNOSTICS n = ROW_COUNT;
    WITH old AS (
        DELETE FROM @extschema@.delivery_runs a WHERE (a.call_id, a.first) IN (
            SELECT x.call_id, x.first FROM @extschema@.delivery_runs x WHERE x.started_at < clock_timestamp() - interval '30 days'
             ORDER BY x.started_at LIMIT 1000)
        RETURNING cardinality(a.numbers) AS entries)
    SELECT n + coalesce(sum(entries), 0) INTO n FROM old;
    IF n > 0 THEN
        RETURN QUERY SELECT 'forgot', format('%s delivery attempts', n);
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.maintain_webhooks() IS
    'Internal: forget keys past their grace and attempts older than 30 days, at most 50000 rows of a table a call.';
