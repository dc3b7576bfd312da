CREATE OR REPLACE FUNCTION @extschema@.webhook_subscription(name text) RETURNS @extschema@.subscriptions
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s @extschema@.subscriptions;
BEGIN
    -- locked: what is counted and replaced here is not changed by two at a time
    SELECT x.* INTO s FROM @extschema@.subscriptions x WHERE x.name = webhook_subscription.name FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM @extschema@.fail('TL002', format('subscription "%s" does not exist', left(webhook_subscription.name, 255)), '{"field": "name"}');
    ELSIF s.target IS NULL OR s.target !~ '^https?://' THEN
        PERFORM @extschema@.fail('TL005', format('subscription "%s" has no http or https target', s.name), '{"field": "name"}');
    END IF;
    RETURN s;
END $$;
COMMENT ON FUNCTION @extschema@.webhook_subscription(text) IS 'Internal: the subscription of that name, locked, if it is a webhook; else TL002 or TL005.';
