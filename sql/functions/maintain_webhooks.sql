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
            SELECT y.call_id, y.first
              FROM (SELECT x.call_id, x.first, sum(pg_column_size(x.numbers)) OVER (ORDER BY x.started_at, x.call_id, x.first) AS bytes
                      FROM (SELECT * FROM @extschema@.delivery_runs o WHERE o.started_at < clock_timestamp() - interval '30 days'
                             ORDER BY o.started_at LIMIT 50000) x) y
             -- the size, known without reading them, says how many: a row is one of a quiet webhook or a thousand of a busy one
             WHERE y.bytes <= 4000000)
        RETURNING cardinality(a.numbers) AS entries)
    SELECT n + coalesce(sum(entries), 0) INTO n FROM old;
    IF n > 0 THEN
        RETURN QUERY SELECT 'forgot', format('%s delivery attempts', n);
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.maintain_webhooks() IS
    'Internal: forget keys past their grace and attempts older than 30 days, at most 50000 rows of a table and about a million attempts a call.';
