CREATE OR REPLACE FUNCTION @extschema@.pause(name text, reason text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s @extschema@.subscriptions := @extschema@.lock_subscription(pause.name);
BEGIN
    IF octet_length(reason) > 2000 THEN
        PERFORM @extschema@.fail('TL005', 'reason is longer than 2000 bytes', '{"field": "reason", "limit": 2000}');
    END IF;
    IF NOT s.active THEN
        RETURN false; -- what it says of why and since when is still true
    END IF;
    UPDATE @extschema@.subscriptions x
       SET active = false, paused_at = clock_timestamp(), pause_reason = reason, updated_at = clock_timestamp()
     WHERE x.subscription_id = s.subscription_id;
    -- claims under way end first, later ones see that it is paused: nothing is handed out after this
    PERFORM @extschema@.lock_cursors(s.subscription_id);
    RETURN true;
END $$;
COMMENT ON FUNCTION @extschema@.pause(text, text) IS
    'Pause a subscription: once it has committed nothing more is handed out, leases in flight end as usual, nothing is lost. reason: at most 2000 bytes, shown in subscription_status. Returns false when it was paused already, which changes nothing. subscribe() does not resume it, resume() does. TL002.';
