-- Everything up to a position is done but for the failures named; the lease goes on with the rest.
CREATE OR REPLACE FUNCTION @extschema@.ack(token uuid, upto bigint DEFAULT NULL, failures jsonb DEFAULT NULL)
    RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    -- the log is read along its primary key, whatever the statistics of a young leaf say
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    l       @extschema@.leases;
    s       @extschema@.subscriptions;
    topic   text;
    settled bigint := 0;
    rest    bigint;
BEGIN
    SELECT * INTO l FROM @extschema@.leases x WHERE x.token = ack.token AND x.held FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM @extschema@.fenced(token);
    END IF;
    -- the common case: all of it, all well
    IF failures IS NULL AND (upto IS NULL OR upto >= l.upto) AND l.retries = 0 THEN
        DELETE FROM @extschema@.leases x WHERE x.token = l.token;
        RETURN l.events;
    END IF;

    SELECT * INTO STRICT s FROM @extschema@.subscriptions x WHERE x.subscription_id = l.subscription_id;
    SELECT t.name INTO STRICT topic FROM @extschema@.topics t WHERE t.topic_id = s.topic_id;
    IF failures IS NOT NULL THEN
        PERFORM @extschema@.record_failures(s, topic, l, coalesce(upto, l.upto), failures);
    END IF;

    -- those that failed again have no token any more
    DELETE FROM @extschema@.retries r WHERE r.token = l.token AND (upto IS NULL OR r."position" <= upto);
    SELECT count(*) INTO rest FROM @extschema@.retries r WHERE r.token = l.token;
    settled := l.retries - rest;
    l.retries := rest;
    IF upto IS NULL OR upto >= l.upto THEN
        settled := settled + l.events;
        l.after := l.upto;
        l.events := 0;
    ELSIF upto > l.after AND l.events > 0 THEN
        -- count what is left, not what is gone: the subscription's pattern may have changed meanwhile
        EXECUTE @extschema@.range_query(topic, s, l.upto - upto, 'count(*)', '') INTO rest
            USING upto, l.upto, @extschema@.pattern_regex(s.pattern), s.tenant_id, s.filter, s.filter_path;
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
    'Settle the events of a lease up to a position (NULL: all). Done are all but those in failures: [{"position", "error", "verdict": "retry" (default), "fail" or "skip", "retry_after_us"}], which go to retries or dead_letters. The lease goes on with what lies behind upto, under the same token, and ends when nothing is left. Returns how many events were settled. In a transaction with your own writes: exactly once. TL004 when the lease is lost: nothing is changed.';
