-- For claims, which never wait: a look first, then only locks that are free.
CREATE OR REPLACE FUNCTION @extschema@.finish_if_idle(s @extschema@.subscriptions) RETURNS @extschema@.subscriptions
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n integer;
BEGIN
    IF NOT EXISTS (SELECT FROM @extschema@.leases l WHERE l.subscription_id = s.subscription_id)
       AND NOT EXISTS (SELECT FROM @extschema@.cursors c WHERE c.subscription_id = s.subscription_id AND c.cursor < least(s.resize_at, s.drain_at))
    THEN
        PERFORM FROM @extschema@.subscriptions x WHERE x.subscription_id = s.subscription_id FOR NO KEY UPDATE SKIP LOCKED;
        IF FOUND THEN
            SELECT count(*) INTO n FROM (SELECT FROM @extschema@.cursors c
                WHERE c.subscription_id = s.subscription_id ORDER BY c.slot FOR UPDATE SKIP LOCKED) q;
            IF n = (SELECT count(*) FROM @extschema@.cursors c WHERE c.subscription_id = s.subscription_id) THEN
                PERFORM @extschema@.finish_changes(s.subscription_id);
            END IF;
        END IF;
    END IF;
    SELECT * INTO s FROM @extschema@.subscriptions x WHERE x.subscription_id = s.subscription_id;
    IF s.resize_at IS NOT NULL THEN
        SELECT count(*) INTO s.slots FROM @extschema@.cursors c WHERE c.subscription_id = s.subscription_id;
    END IF;
    RETURN s;
END $$;
COMMENT ON FUNCTION @extschema@.finish_if_idle(@extschema@.subscriptions) IS
    'Internal: finish_changes() if nothing is in the way; the subscription as it is then, slots being as many as there are.';
