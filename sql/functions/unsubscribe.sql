CREATE OR REPLACE FUNCTION @extschema@.unsubscribe(name text, force boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    -- the log is read along its primary key, whatever the statistics of a young leaf say
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
    -- filter_path: who claims, takes over and settles has to see the same events
    SET TimeZone = 'UTC' AS $$
DECLARE
    s        @extschema@.subscriptions := @extschema@.lock_subscription(unsubscribe.name);
    leased   bigint;
    retrying bigint;
    pending  boolean;
BEGIN
    -- in the order of locks, so that no claim or ack is caught in between
    PERFORM FROM @extschema@.cursors c WHERE c.subscription_id = s.subscription_id ORDER BY c.slot FOR UPDATE;
    PERFORM FROM @extschema@.leases l WHERE l.subscription_id = s.subscription_id ORDER BY l.token FOR UPDATE;
    IF force IS NOT TRUE THEN
        SELECT count(*) INTO leased FROM @extschema@.leases l WHERE l.subscription_id = s.subscription_id;
        SELECT count(*) INTO retrying FROM @extschema@.retries r WHERE r.subscription_id = s.subscription_id;
        pending := @extschema@.has_pending(s);
        IF leased + retrying > 0 OR pending THEN
            PERFORM @extschema@.fail('TL001', format('subscription "%s" has events that are not settled', s.name),
                jsonb_build_object('field', 'name', 'pending', pending, 'leases', leased, 'retries', retrying),
                'drain() it first, or pass force => true and they are not delivered.');
        END IF;
    END IF;
    DELETE FROM @extschema@.subscriptions x WHERE x.subscription_id = s.subscription_id;
END $$;
COMMENT ON FUNCTION @extschema@.unsubscribe(text, boolean) IS
    'Remove a subscription with its cursors, leases and retries; a lease in flight is fenced, dead letters stay. TL001 while it has events that are not delivered, in flight or wait for a retry, unless force; DETAIL says which. TL002 when there is none.';
