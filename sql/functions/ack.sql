-- Everything up to a position is done but for the failures named; the lease goes on with the rest.
CREATE OR REPLACE FUNCTION @extschema@.ack(token uuid, upto bigint DEFAULT NULL, failures jsonb DEFAULT NULL)
    RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    -- the log is read along its primary key, whatever the statistics of a young leaf say
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
    -- filter_path: who claims, takes over and settles has to see the same events
    SET TimeZone = 'UTC' AS $$
#variable_conflict use_column
DECLARE
    l       @extschema@.leases;
    s       @extschema@.subscriptions;
    topic   text;
    settled bigint := 0;
    rest    bigint;
    keys    text[];
    stopped text[];
BEGIN
    IF failures IS NOT NULL THEN
        -- in the order of locks: it may have to stop its subscription
        PERFORM FROM @extschema@.subscriptions x
          WHERE x.subscription_id = (SELECT y.subscription_id FROM @extschema@.leases y WHERE y.token = ack.token) AND x.on_failure = 'stop'
            FOR NO KEY UPDATE;
    END IF;
    SELECT * INTO l FROM @extschema@.leases x WHERE x.token = ack.token AND x.held FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM @extschema@.fenced(token);
    END IF;
    -- the common case: all of it, all well
    IF failures IS NULL AND (upto IS NULL OR upto >= l.upto) AND l.retries = 0 AND NOT l.is_tracked THEN
        DELETE FROM @extschema@.leases x WHERE x.token = l.token;
        RETURN l.events;
    END IF;

    SELECT * INTO STRICT s FROM @extschema@.subscriptions x WHERE x.subscription_id = l.subscription_id;
    IF s.resize_at IS NOT NULL THEN
        SELECT count(*) INTO s.slots FROM @extschema@.cursors c WHERE c.subscription_id = s.subscription_id;
    END IF;
    SELECT t.name INTO STRICT topic FROM @extschema@.topics t WHERE t.topic_id = s.topic_id;
    IF l.is_tracked THEN
        PERFORM @extschema@.track_ack(s, l, coalesce(upto, 9223372036854775807), failures);
    END IF;
    IF failures IS NOT NULL OR l.retries > 0 THEN
        PERFORM @extschema@.lock_line(s);
    END IF;
    IF failures IS NOT NULL THEN
        SELECT f.deferred, f.stopped INTO keys, stopped
          FROM @extschema@.record_failures(s, topic, l, coalesce(upto, 9223372036854775807), failures) f;
    END IF;

    -- those that failed again have no token any more
    WITH gone AS (
        DELETE FROM @extschema@.retries r WHERE r.token = l.token AND (upto IS NULL OR r."position" <= upto) RETURNING r.key)
    SELECT keys || array_agg(DISTINCT key) INTO keys FROM gone WHERE key IS NOT NULL;
    IF keys IS NOT NULL THEN
        PERFORM @extschema@.promote_keys(s.subscription_id, ARRAY(SELECT unnest(keys) EXCEPT SELECT unnest(stopped)));
    END IF;
    SELECT count(*) INTO rest FROM @extschema@.retries r WHERE r.token = l.token;
    settled := l.retries - rest;
    l.retries := rest;
    IF upto IS NULL OR upto >= l.upto THEN
        settled := settled + l.events;
        l.after := l.upto;
        l.events := 0;
    ELSIF upto > l.after AND l.events IS DISTINCT FROM 0 THEN
        -- count what is left, not what is gone: the subscription's pattern may have changed meanwhile
        EXECUTE @extschema@.range_query(topic, s, l.slot, l.has_holes, l.upto - upto, 'count(*)', '') INTO rest
            USING upto, l.upto, @extschema@.type_operand(s.pattern), s.tenant_id, s.filter, s.filter_path;
        settled := settled + greatest(l.events - rest, 0);
        l.after := upto;
        l.events := rest;
    END IF;
    IF l.events + l.retries = 0 THEN
        DELETE FROM @extschema@.leases x WHERE x.token = l.token;
    ELSE
        UPDATE @extschema@.leases x SET after = l.after, events = l.events, retries = l.retries WHERE x.token = l.token;
    END IF;
    RETURN settled;
END $$;
COMMENT ON FUNCTION @extschema@.ack(uuid, bigint, jsonb) IS
    'Settle the events of a lease up to a position (NULL: all). Done are all but those in failures: [{"position", "error", "verdict", "retry_after_us", "wish_us", "floor_us"}]. verdict: retry (default; goes to retries, after max_attempts to dead_letters), fail (to dead_letters), skip, defer (was not tried, because it has to wait for an earlier event of its key: comes again behind that, no attempt is counted), expired (was not tried, because expires_at has passed: to dead_letters). The pause before a retry is that of the subscription''s policy, or retry_after_us exactly, or wish_us within once and twice what the policy says; at least floor_us. Under on_failure block_key or stop report the later events of the key of a failed one in the same lease as defer, or they have overtaken it. The lease goes on with what lies behind upto, under the same token, and ends when nothing is left. Returns how many events were settled (NULL: of a shared claim, not counted). In a transaction with your own writes: exactly once. TL004 when the lease is lost: nothing is changed.';
