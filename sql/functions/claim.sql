CREATE OR REPLACE FUNCTION @extschema@.claim(
        subscription text, slot integer DEFAULT NULL, max_events integer DEFAULT 100, lease interval DEFAULT interval '30 s')
    RETURNS TABLE (token uuid, attempt integer, "position" bigint, id uuid, type text, source text, stream text,
        version bigint, key text, tenant_id text, data jsonb, metadata jsonb, expires_at timestamptz,
        created_at timestamptz)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    -- the log is read along its primary key, whatever the statistics of a young leaf say
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    s     @extschema@.subscriptions;
    taken @extschema@.leases;
    topic text;
    h     bigint;
    found_events integer;
BEGIN
    IF coalesce(max_events NOT BETWEEN 1 AND 10000, true) THEN
        PERFORM @extschema@.fail('TL005', 'max_events is not 1 to 10000', '{"field": "max_events", "limit": 10000}');
    END IF;
    PERFORM @extschema@.check_lease(lease);
    SELECT * INTO s FROM @extschema@.subscriptions x WHERE x.name = claim.subscription;
    IF NOT FOUND THEN
        PERFORM @extschema@.fail('TL002', format('subscription "%s" does not exist', left(claim.subscription, 255)), '{"field": "subscription"}');
    END IF;
    IF slot IS NOT NULL AND NOT EXISTS (SELECT FROM @extschema@.cursors c
        WHERE c.subscription_id = s.subscription_id AND c.slot = claim.slot)
    THEN
        PERFORM @extschema@.fail('TL002', format('subscription "%s" has no slot %s', s.name, slot), '{"field": "slot"}');
    END IF;
    SELECT t.name INTO topic FROM @extschema@.topics t WHERE t.topic_id = s.topic_id;
    h := @extschema@.horizon(topic);
    IF NOT s.active OR s.mode = 'sync' AND s.target LIKE 'sql:%' THEN
        RETURN;
    END IF;
    taken := @extschema@.take_lease(s, topic, slot, max_events, lease, h, current_setting('application_name'));
    IF taken.token IS NULL THEN
        RETURN;
    END IF;
    IF taken.retries > 0 THEN
        RETURN QUERY EXECUTE @extschema@.retries_query(topic, false) USING taken.token;
    END IF;
    IF taken.events IS DISTINCT FROM 0 THEN
        RETURN QUERY EXECUTE @extschema@.range_query(topic, s, taken.upto - taken.after,
                '$7::uuid, $8::integer, e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at', 'ORDER BY e."position"')
            USING taken.after, taken.upto, @extschema@.pattern_regex(s.pattern), s.tenant_id, s.filter, s.filter_path,
                taken.token, taken.attempt;
    END IF;
    IF taken.events IS NULL THEN
        GET DIAGNOSTICS found_events = ROW_COUNT;
        taken.events := found_events;
        PERFORM @extschema@.write_lease(taken, lease);
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.claim(text, integer, integer, interval) IS
    'Claim the next events of a subscription under a lease: whole events, ascending by position, each row with the token for ack(), extend(), release() and the number of the attempt. No rows: nothing there, or (ordering key, total) another holds the lease, or none of the next 10000 events matches: then subscription_status.behind is not 0, claim again. max_events: 1 to 10000. lease: 1 ms to 1 day; when it has passed others may take over. Call it in a transaction of its own; READ COMMITTED only (TL005). TL002 unknown subscription or slot.';
