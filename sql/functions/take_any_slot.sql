CREATE OR REPLACE FUNCTION @extschema@.take_any_slot(
        s @extschema@.subscriptions, topic text, only_slot integer, max_events integer, duration interval, h bigint,
        lease_owner text)
    RETURNS @extschema@.leases LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    taken @extschema@.leases;
    n     integer;
BEGIN
    IF only_slot IS NOT NULL OR s.slots = 1 AND s.resize_at IS NULL THEN
        RETURN @extschema@.take_lease(s, topic, coalesce(only_slot, 0), max_events, duration, h, lease_owner);
    END IF;
    FOR n IN SELECT c.slot FROM @extschema@.cursors c
         WHERE c.subscription_id = s.subscription_id AND @extschema@.slot_may_have(s, c, h)
         ORDER BY c.last_triggered_at NULLS FIRST, c.slot
    LOOP
        taken := @extschema@.take_lease(s, topic, n, max_events, duration, h, lease_owner);
        EXIT WHEN taken.token IS NOT NULL;
    END LOOP;
    RETURN taken;
END $$;
COMMENT ON FUNCTION @extschema@.take_any_slot(@extschema@.subscriptions, text, integer, integer, interval, bigint, text) IS
    'Internal: take_lease() of the given slot, or of the one that has waited longest among those that have something.';
