CREATE OR REPLACE FUNCTION @extschema@.order_key(s @extschema@.subscriptions, key text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN s.on_failure = 'retry' THEN NULL
        WHEN s.ordering = 'key' THEN key
        WHEN s.ordering = 'total' OR s.on_failure = 'stop' THEN '' END;
END $$;
COMMENT ON FUNCTION @extschema@.order_key(@extschema@.subscriptions, text) IS
    'Internal: what waits for an event with this key when it fails: events with the same answer; NULL: nothing.';
