CREATE OR REPLACE FUNCTION @extschema@.webhook_subscription(name text) RETURNS @extschema@.subscriptions
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- locked: what is counted and replaced here is not changed by two at a time
    s @extschema@.subscriptions := @extschema@.lock_subscription(name);
BEGIN
    IF s.target IS NULL OR s.target !~ '^https?://' THEN
        PERFORM @extschema@.fail('TL005', format('subscription "%s" has no http or https target', s.name), '{"field": "name"}');
    END IF;
    RETURN s;
END $$;
COMMENT ON FUNCTION @extschema@.webhook_subscription(text) IS 'Internal: the subscription of that name, locked, if it is a webhook; else TL002 or TL005.';
