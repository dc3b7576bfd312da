CREATE OR REPLACE FUNCTION @extschema@.release(token uuid) RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    -- filter_path: who claims, takes over and settles has to see the same events
    SET TimeZone = 'UTC' AS $$
DECLARE
    l      @extschema@.leases;
    s      @extschema@.subscriptions;
    topic  text;
    now_at timestamptz := clock_timestamp();
BEGIN
    SELECT * INTO l FROM @extschema@.leases x WHERE x.token = release.token AND x.held FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM @extschema@.fenced(token);
    END IF;
    IF l.events IS NULL THEN
        SELECT x.* INTO STRICT s FROM @extschema@.subscriptions x WHERE x.subscription_id = l.subscription_id;
        SELECT t.name INTO STRICT topic FROM @extschema@.topics t WHERE t.topic_id = s.topic_id;
        EXECUTE @extschema@.range_query(topic, s, l.slot, l.has_holes, l.upto - l.after, 'count(*)', '') INTO l.events
            USING l.after, l.upto, @extschema@.type_operand(s.pattern), s.tenant_id, s.filter, s.filter_path;
    END IF;
    IF l.is_tracked THEN
        PERFORM @extschema@.track_release(l);
    END IF;
    UPDATE @extschema@.retries r
       SET token = NULL, attempt = r.attempt - 1, next_attempt_at = now_at WHERE r.token = l.token;
    IF l.events = 0 THEN
        DELETE FROM @extschema@.leases x WHERE x.token = l.token;
    ELSE
        UPDATE @extschema@.leases x
           SET token = gen_random_uuid(), held = false, events = l.events, retries = 0, attempt = l.attempt - 1, until = now_at
         WHERE x.token = l.token;
    END IF;
    RETURN l.events + l.retries;
END $$;
COMMENT ON FUNCTION @extschema@.release(uuid) IS
    'Hand the unsettled rest of a lease back: claimable at once, and no attempt is counted. Returns how many events. TL004 when the lease is lost.';
