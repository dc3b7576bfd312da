-- A slot with an order has one lease at a time, so at the end of each its worker would wait for the last answer, the
-- ack and the next claim. This is the one exception: a second lease right behind the first, for the holder of that.
-- Together they are lost or live: nobody takes one over while the other is live, and who does fences both
-- (take_leftover()). Only the plain case; whoever gets nothing claims when the first lease has ended.
CREATE OR REPLACE FUNCTION @extschema@.claim_ahead(token uuid, max_events integer, lease interval DEFAULT interval '30 s')
    RETURNS TABLE (subscription_id bigint, next_token uuid, attempt integer, "position" bigint, id uuid, type text, source text,
        stream text, version bigint, key text, tenant_id text, data jsonb, metadata jsonb, expires_at timestamptz,
        created_at timestamptz, slot bigint)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    -- the log is read along its primary key, whatever the statistics of a young leaf say
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
    -- filter_path: who claims, takes over and settles has to see the same events
    SET TimeZone = 'UTC' AS $$
#variable_conflict use_column
DECLARE
    first  @extschema@.leases;
    s      @extschema@.subscriptions;
    cur    @extschema@.cursors;
    new    @extschema@.leases;
    topic  text;
    h      bigint;
    got    integer;
    now_at timestamptz;
    has_holes boolean;
BEGIN
    IF coalesce(max_events NOT BETWEEN 1 AND 10000, true) THEN
        PERFORM @extschema@.fail('TL005', 'max_events is not 1 to 10000', '{"field": "max_events", "limit": 10000}');
    END IF;
    PERFORM @extschema@.check_lease(lease);
    SELECT * INTO first FROM @extschema@.leases l WHERE l.token = claim_ahead.token AND l.held;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT t.name INTO topic FROM @extschema@.subscriptions x JOIN @extschema@.topics t USING (topic_id)
     WHERE x.subscription_id = first.subscription_id;
    h := @extschema@.horizon(topic);
    -- locked: it is being changed
    SELECT * INTO cur FROM @extschema@.cursors c
     WHERE c.subscription_id = first.subscription_id AND c.slot = first.slot AND c.cursor < h FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- Later statements than the lock: they see every lease given, every change made before. The first lease is locked, so
    -- that it is still its owner's when the second is written down.
    PERFORM FROM @extschema@.leases l
      WHERE l.token = claim_ahead.token AND l.held AND l.until > clock_timestamp() AND l.retries = 0 AND l.replay_id IS NULL
        FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    now_at := clock_timestamp(); -- not the function itself, of which no index is asked
    SELECT x.* INTO s FROM @extschema@.subscriptions x
     WHERE x.subscription_id = cur.subscription_id AND x.active AND x.ordering = 'key' AND x.on_failure <> 'stop' AND x.slots = 1
       AND (x.mode = 'async' OR x.target IS NULL OR x.target NOT LIKE 'sql:%')
       AND (x.resize_at, x.drain_at, x.max_in_flight, x.rate_limit) IS NULL
       AND NOT EXISTS (SELECT FROM @extschema@.leases l
                        WHERE l.subscription_id = x.subscription_id AND l.slot = cur.slot AND l.token <> claim_ahead.token)
       AND NOT EXISTS (SELECT FROM @extschema@.replays p WHERE p.subscription_id = x.subscription_id)
       -- their turn comes first; ordered, so that a plan made while nothing waits uses the index of times
       AND (SELECT true FROM @extschema@.retries r
             WHERE r.subscription_id = x.subscription_id AND r.slot = cur.slot AND r.token IS NULL AND r.next_attempt_at <= now_at
             ORDER BY r.next_attempt_at LIMIT 1) IS NULL;
    IF NOT FOUND THEN
        RETURN;
    END IF;

    new.token := gen_random_uuid();
    new.subscription_id := s.subscription_id;
    new.slot := cur.slot;
    new.after := cur.cursor;
    new.upto := least(h, cur.cursor + max_events); -- so many positions are at most so many events
    new.retries := 0;
    new.attempt := 1;
    new.epoch := cur.epoch + 1;
    new.owner := first.owner;
    new.held := true;
    new.solo := false;
    new.is_tracked := s.track = 'all';
    has_holes := @extschema@.holes_in(new);
    new.has_holes := has_holes
        OR s.on_failure <> 'retry' AND EXISTS (SELECT FROM @extschema@.retries r WHERE r.subscription_id = s.subscription_id);
    RETURN QUERY EXECUTE @extschema@.handout_query(topic, s, new.slot, has_holes, new.has_holes, new.upto - new.after,
            '$7::bigint, $8::uuid, CASE WHEN e.expires_at IS NOT NULL AND e.expires_at <= clock_timestamp() THEN 0 ELSE $9::integer END, e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at, $10::bigint', false)
        USING new.after, new.upto, @extschema@.type_operand(s.pattern), s.tenant_id, s.filter, s.filter_path,
            s.subscription_id, new.token, new.attempt, new.slot, new;
    GET DIAGNOSTICS got = ROW_COUNT;
    new.events := got;
    new := @extschema@.write_lease(new, lease);
    IF new.is_tracked AND new.token IS NOT NULL THEN
        PERFORM @extschema@.track_claim(s, topic, new.token);
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.claim_ahead(uuid, integer, interval) IS
    'For workers: behind the lease of this token, which must be live, the next events of its slot under a second lease, so that work goes on while the first ends. An event of it may begin only when those of its key in the first lease are done; what waits for one that failed there is settled with verdict defer, and the first lease is settled, or handed back, before the second. Rows as those of claim_many(). Nothing: claim when the first lease has ended. It is given for ordering key with one slot, without limits, stop, resize, drain, replay, or a retry that is due. READ COMMITTED only (TL005).';
