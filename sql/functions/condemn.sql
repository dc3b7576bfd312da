CREATE OR REPLACE FUNCTION @extschema@.condemn(s @extschema@.subscriptions, topic text, lost @extschema@.leases)
    RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r @extschema@.retries;
BEGIN
    DELETE FROM @extschema@.leases l WHERE l.token = lost.token;
    EXECUTE @extschema@.range_query(topic, s, lost.slot, lost.has_holes, lost.upto - lost.after, 'e."position", e.key', 'ORDER BY 1 LIMIT 1')
        INTO r."position", r.key
        USING lost.after, lost.upto, @extschema@.type_operand(s.pattern), s.tenant_id, s.filter, s.filter_path;
    IF r."position" IS NULL THEN
        RETURN false; -- the subscription has changed and does not want it any more
    END IF;
    r.subscription_id := s.subscription_id;
    r.slot := lost.slot;
    r.attempt := lost.attempt;
    r.key := @extschema@.order_key(s, r.key);
    r.error_message := 'lease expired: the process that handled it was lost';
    r.errors := '[]';
    r.replay_id := lost.replay_id;
    RETURN @extschema@.give_up(s, topic, r, 'crashed');
END $$;
COMMENT ON FUNCTION @extschema@.condemn(@extschema@.subscriptions, text, @extschema@.leases) IS
    'Internal: a lease of one event was lost at its last attempt, so that event is the guilty one. Returns whether that stopped the subscription.';
