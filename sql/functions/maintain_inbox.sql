CREATE OR REPLACE FUNCTION @extschema@.maintain_inbox() RETURNS TABLE (action text, detail text) LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    memory interval := coalesce(nullif(current_setting('trunkline.inbox_window', true), ''), '30 days')::interval;
    n      bigint;
BEGIN
    IF memory < interval '0' THEN
        PERFORM @extschema@.fail('TL005', 'trunkline.inbox_window is negative', '{"field": "trunkline.inbox_window"}');
    END IF;
    DELETE FROM @extschema@.inbox i WHERE i.ctid = ANY (ARRAY(
        SELECT x.ctid FROM @extschema@.inbox x WHERE x.handled_at < clock_timestamp() - memory
         ORDER BY x.handled_at LIMIT 10000 FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n > 0 THEN
        RETURN QUERY SELECT 'forgot', format('%s events handled longer than %s ago', n, memory);
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.maintain_inbox() IS
    'Internal: maintain() for the inbox: forget what once() was told longer ago than the setting trunkline.inbox_window, 10000 rows a call.';
