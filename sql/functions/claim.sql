CREATE OR REPLACE FUNCTION @extschema@.claim(
        subscription text, slot integer DEFAULT NULL, max_events integer DEFAULT 100, lease interval DEFAULT interval '30 s')
    RETURNS TABLE (token uuid, attempt integer, "position" bigint, id uuid, type text, source text, stream text,
        version bigint, key text, tenant_id text, data jsonb, metadata jsonb, expires_at timestamptz,
        created_at timestamptz)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    -- the log is read along its primary key, whatever the statistics of a young leaf say
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
    -- filter_path: who claims, takes over and settles has to see the same events
    SET TimeZone = 'UTC' AS $$
#variable_conflict use_column
DECLARE
    s       @extschema@.subscriptions;
    taken   @extschema@.leases;
    topic   text;
    h       bigint;
    tries   integer := 0;
    retried integer;
    fresh   integer;
    got     integer;
    at      bigint;
    upto    bigint;
    is_counted boolean;
    is_holed boolean;
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
    -- the publisher's transaction runs those
    IF NOT s.active OR s.mode = 'sync' AND s.target LIKE 'sql:%' THEN
        RETURN;
    END IF;
    IF s.resize_at IS NOT NULL OR s.drain_at IS NOT NULL THEN
        s := @extschema@.finish_if_idle(s);
    END IF;
    LOOP
        retried := 0;
        fresh := 0;
        taken := @extschema@.take_any_slot(s, topic, slot, max_events, lease, h, current_setting('application_name'));
        EXIT WHEN taken.token IS NULL;
        IF taken.retries > 0 THEN
            RETURN QUERY EXECUTE @extschema@.retries_query(topic, 'r.token, r.attempt, ', '',
                    EXISTS (SELECT FROM @extschema@.retries r WHERE r.token = taken.token AND r.event IS NOT NULL),
                    'AND (e.expires_at IS NULL OR e.expires_at > clock_timestamp() OR @extschema@.bury_expired($2, $3, $4, r."position", true))')
                USING taken.token, s, topic, taken;
            GET DIAGNOSTICS retried = ROW_COUNT;
        END IF;
        IF taken.events IS DISTINCT FROM 0 THEN
            at := taken.after;
            -- not counted, and more than asked for: take_lease() has seen that there are none
            is_holed := taken.has_holes AND (taken.events IS NOT NULL OR taken.upto - taken.after <= max_events) AND @extschema@.holes_in(taken);
            FOR n IN 1 .. 2 LOOP
                -- so many positions are so many events, unless there are gaps
                upto := CASE WHEN taken.events IS NOT NULL THEN taken.upto
                    WHEN n = 1 THEN least(at + max_events, taken.upto)
                    ELSE @extschema@.batch_end(topic, at, taken.upto, max_events - fresh) END;
                RETURN QUERY EXECUTE @extschema@.handout_query(topic, s, taken.slot, is_holed, taken.has_holes, upto - at,
                    '$8::uuid, $9::integer, e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at', true)
                USING at, upto, @extschema@.type_operand(s.pattern), s.tenant_id, s.filter, s.filter_path,
                    s.subscription_id, taken.token, taken.attempt, topic, taken, s;
                GET DIAGNOSTICS got = ROW_COUNT;
                fresh := fresh + got;
                at := upto;
                EXIT WHEN upto = taken.upto OR fresh = max_events;
                IF taken.has_holes THEN
                    -- what waits for a failed one was parked, no more of it than were asked for; but a gap is passed over
                    EXIT WHEN fresh > 0;
                    EXIT WHEN EXISTS (SELECT FROM @extschema@.retries r
                        WHERE r.subscription_id = s.subscription_id AND r."position" > taken.after AND r."position" <= upto);
                END IF;
            END LOOP;
            IF taken.events IS NULL THEN
                taken.upto := at;
            END IF;
        END IF;
        IF fresh = taken.events AND retried = taken.retries THEN
            EXIT; -- all of it
        END IF;
        -- those that were buried do not come again when the lease is lost
        taken.has_holes := taken.has_holes OR @extschema@.holes_in(taken);
        is_counted := taken.events IS NOT NULL;
        taken.events := fresh;
        taken.retries := retried;
        IF is_counted THEN
            PERFORM @extschema@.shrink_lease(taken);
        ELSE
            PERFORM @extschema@.write_lease(taken, lease);
        END IF;
        EXIT WHEN fresh + retried > 0;
        -- nothing but events that had expired or have to wait: look on, but not for ever
        tries := tries + 1;
        EXIT WHEN tries = 100 OR tries * max_events >= 10000;
    END LOOP;
    IF taken.is_tracked AND fresh + retried > 0 THEN
        PERFORM @extschema@.track_claim(s, topic, taken.token);
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.claim(text, integer, integer, interval) IS
    'Claim the next events of a subscription under a lease: whole events, each row with the token for ack(), extend(), release() and the number of the attempt; first those tried again, then fresh ones, each by position. An event whose expires_at has passed is not handed out but becomes a dead letter, reason expired. No rows: nothing there, or (ordering key, total) others hold the leases of all slots or everything waits for an event that failed, or none of the next 10000 events matches: then subscription_status.behind is not 0, claim again. slot: NULL takes the one that has waited longest. max_events: 1 to 10000. lease: 1 ms to 1 day; when it has passed others may take over. Call it in a transaction of its own; READ COMMITTED only (TL005). TL002 unknown subscription or slot.';
