CREATE OR REPLACE FUNCTION @extschema@.claim_many(
        subscriptions bigint[], capacity integer[], lease interval DEFAULT interval '30 s', owner text DEFAULT NULL,
        shared boolean DEFAULT false, ranges integer DEFAULT NULL)
    RETURNS TABLE (subscription_id bigint, token uuid, attempt integer, "position" bigint, id uuid, type text, source text,
        stream text, version bigint, key text, tenant_id text, data jsonb, metadata jsonb, expires_at timestamptz,
        created_at timestamptz, members bigint)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    -- the log is read along its primary key, whatever the statistics of a young leaf say
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
    -- filter_path: who claims, takes over and settles has to see the same events
    SET TimeZone = 'UTC' AS $$
#variable_conflict use_column
DECLARE
    numbers  integer[];
    names    text[];
    sequences regclass[];
    horizons bigint[];
    lasts    bigint[];
    s        @extschema@.subscriptions;
    taken    @extschema@.leases;
    topic    text;
    h        bigint;
    due      record;
    served   bigint := 0;
    fresh    integer;
    got      integer;
    most     integer;
    at       bigint;
    upto     bigint;
    group_of record;
    peers    bigint[];
    room     integer;
    replays  boolean;
    -- not the function itself, of which no index is asked
    now_at   timestamptz := clock_timestamp();
    grouped  bigint[] := '{}';
    done     bigint[] := '{}';
    holds    boolean := false;
    is_holed boolean;
BEGIN
    IF coalesce(lease NOT BETWEEN interval '1 ms' AND interval '1 day', true) THEN
        PERFORM @extschema@.check_lease(lease);
    END IF;
    IF cardinality(subscriptions) IS DISTINCT FROM cardinality(capacity) THEN
        PERFORM @extschema@.fail('TL005', 'capacity has another length than subscriptions', '{"field": "capacity"}');
    END IF;
    SELECT array_agg(t.topic_id), array_agg(t.name), array_agg(q.sequence), array_agg(pg_sequence_last_value(q.sequence)), EXISTS (SELECT FROM @extschema@.replays)
      INTO numbers, names, sequences, lasts, replays
      FROM @extschema@.topics t CROSS JOIN LATERAL (SELECT to_regclass('@extschema@.position_' || t.name) AS sequence OFFSET 0) q;
    horizons := @extschema@.register_horizons(sequences);
    -- header: whether anything became readable anywhere, and whether others are to be told
    subscription_id := 0;
    attempt := horizons[cardinality(horizons)];
    horizons := trim_array(horizons, 1);
    "position" := 0;
    FOREACH h IN ARRAY horizons LOOP
        "position" := "position" + coalesce(h, 0);
    END LOOP;
    members := (horizons <> lasts)::integer;
    RETURN NEXT;
    -- only those that may have something: one look at all of them, which locks and writes nothing
    -- OFFSET 0 keeps the values from the planner: where it sees them it plans this anew in each call, for longer
    -- than the look takes. A scalar subquery with an order: the plan, made when nothing waits, must use the index
    -- of times, and EXISTS might be answered by a read of all that waits.
    FOR due IN
        SELECT s, s.resize_at IS NOT NULL AS is_resizing, now.topic, u.room, u.place, c, c.slot, now.h
          FROM (SELECT claim_many.subscriptions AS ids, claim_many.capacity AS rooms, numbers AS topic_ids, names AS topics, horizons AS hs,
                       replays AS has_replays, now_at AS at OFFSET 0) v
          CROSS JOIN LATERAL unnest(v.ids, v.rooms) WITH ORDINALITY u(subscription_id, room, place)
          JOIN @extschema@.subscriptions s ON s.subscription_id = u.subscription_id AND s.active
               AND (s.mode = 'async' OR s.target IS NULL OR s.target NOT LIKE 'sql:%')
          JOIN @extschema@.cursors c ON c.subscription_id = s.subscription_id
          JOIN LATERAL (SELECT v.topics[x.i] AS topic, v.hs[x.i] AS h FROM (SELECT array_position(v.topic_ids, s.topic_id) AS i OFFSET 0) x OFFSET 0) now
               ON now.h IS NOT NULL
          -- 0: one of its leases was lost or handed back, 1: all are held, NULL: there is none
          CROSS JOIN LATERAL (SELECT min((l.held AND l.until > clock_timestamp())::integer) AS held FROM @extschema@.leases l
                               WHERE l.subscription_id = s.subscription_id AND l.slot = c.slot) l
         WHERE u.room > 0
           AND CASE WHEN v.has_replays OR NOT ((s.resize_at, s.drain_at, s.max_in_flight, s.rate_limit) IS NULL)
               THEN s.resize_at IS NOT NULL OR s.drain_at IS NOT NULL OR @extschema@.slot_may_have(s, c, now.h)
               WHEN l.held = 0 THEN true
               WHEN l.held = 1 AND s.ordering <> 'none' THEN false
               WHEN c.cursor < now.h THEN true
               ELSE (SELECT true FROM @extschema@.retries r
                      WHERE r.subscription_id = s.subscription_id AND r.slot = c.slot AND r.token IS NULL AND r.next_attempt_at <= v.at
                      ORDER BY r.next_attempt_at LIMIT 1) END
         ORDER BY u.place, c.last_triggered_at NULLS FIRST, c.slot
    LOOP
        CONTINUE WHEN due.place = served;
        s := due.s;
        IF claim_many.shared THEN
            CONTINUE WHEN s.subscription_id = ANY (done);
            IF NOT s.subscription_id = ANY (grouped) AND cardinality(claim_many.subscriptions) > 1 AND (due.c).cursor < due.h THEN
                -- the first of its place: all of them together, as many as a mask has bits for
                SELECT array_agg(q.subscription_id), min(q.room) INTO peers, room FROM (
                    SELECT x.subscription_id, u.room
                      FROM (SELECT claim_many.subscriptions AS ids, claim_many.capacity AS rooms OFFSET 0) v
                     CROSS JOIN LATERAL unnest(v.ids, v.rooms) u(subscription_id, room)
                      JOIN @extschema@.subscriptions x ON x.subscription_id = u.subscription_id AND x.topic_id = s.topic_id
                      JOIN @extschema@.cursors c ON c.subscription_id = x.subscription_id AND c.slot = 0 AND c.cursor = (due.c).cursor
                     WHERE u.room > 0 AND x.slots = 1 AND NOT x.subscription_id = ANY (grouped)
                       AND (x.mode = 'async' OR x.target IS NULL OR x.target NOT LIKE 'sql:%')
                     LIMIT 60) q;
                grouped := grouped || peers;
                IF cardinality(peers) > 1 THEN
                    holds := true;
                    group_of := @extschema@.shared_claim(due.topic, peers, (due.c).cursor);
                    IF group_of.ids IS NOT NULL THEN
                        done := done || group_of.ids;
                        RETURN QUERY EXECUTE group_of.query
                            USING (due.c).cursor, due.h, least(room, 10000)::bigint, group_of.operands, group_of.tenants, group_of.filters,
                                group_of.paths, group_of.ids, coalesce(claim_many.owner, current_setting('application_name')), lease;
                        CONTINUE WHEN s.subscription_id = ANY (done);
                    END IF;
                END IF;
            END IF;
        END IF;
        topic := due.topic;
        -- says that there is more to look at
        subscription_id := s.subscription_id;
        attempt := NULL;
        "position" := 0;
        IF s.resize_at IS NOT NULL OR s.drain_at IS NOT NULL THEN
            s := @extschema@.finish_if_idle(s);
            IF due.is_resizing AND s.resize_at IS NULL THEN
                served := due.place;
                RETURN NEXT;
            END IF;
            CONTINUE WHEN due.place = served OR NOT s.active OR NOT @extschema@.slot_may_have(s, due.c, due.h);
        END IF;
        IF holds AND s.ordering = 'none' THEN
            -- whoever waits for a cursor holds no other: sets and groups of subscriptions differ from worker to worker
            PERFORM FROM @extschema@.cursors c WHERE c.subscription_id = s.subscription_id AND c.slot = due.slot FOR UPDATE SKIP LOCKED;
            IF NOT FOUND THEN
                "position" := (due.c).cursor;
                RETURN NEXT;
                CONTINUE;
            END IF;
        END IF;
        holds := true;
        most := least(due.room, 10000);
        taken := @extschema@.take_lease(s, topic, due.slot, most, lease, due.h,
            coalesce(claim_many.owner, current_setting('application_name')));
        IF taken.token IS NULL THEN
            IF taken.upto < due.h THEN
                "position" := taken.upto;
                RETURN NEXT;
            END IF;
            CONTINUE;
        END IF;
        IF taken.retries > 0 THEN
            RETURN QUERY EXECUTE @extschema@.retries_query(topic,
                    'r.subscription_id, r.token, CASE WHEN r.event IS NULL AND e.expires_at IS NOT NULL AND e.expires_at <= clock_timestamp() THEN 0 ELSE r.attempt END, ', ', $2::bigint',
                    EXISTS (SELECT FROM @extschema@.retries r WHERE r.token = taken.token AND r.event IS NOT NULL))
                USING taken.token, taken.slot;
        END IF;
        IF least(taken.upto - taken.after, most) >= ranges AND taken.events IS NULL AND taken.retries = 0 AND s.slots = 1 AND s.pattern IN ('*', '**') AND s.tenant_id IS NULL
           AND s.filter IS NULL AND s.filter_path IS NULL AND s.max_in_flight IS NULL AND s.rate_limit IS NULL
           AND taken.replay_id IS NULL AND NOT taken.has_holes AND NOT taken.is_tracked
        THEN
            upto := least(taken.after + most, taken.upto);
            -- not where most of it are gaps: those are for one claim to pass over
            IF @extschema@.batch_end(topic, taken.after, upto, greatest((upto - taken.after) / 4, 1)::integer) < upto THEN
                token := taken.token;
                attempt := taken.attempt;
                "position" := taken.after;
                version := upto;
                members := taken.upto;
                taken.upto := upto;
                PERFORM @extschema@.write_lease(taken, lease);
                RETURN NEXT;
                token := NULL;
                version := NULL;
                members := NULL;
                served := due.place;
                CONTINUE;
            END IF;
        END IF;
        IF taken.events IS DISTINCT FROM 0 THEN
            fresh := 0;
            at := taken.after;
            -- not counted, and more than asked for: take_lease() has seen that there are none
            is_holed := taken.has_holes AND (taken.events IS NOT NULL OR taken.upto - taken.after <= most) AND @extschema@.holes_in(taken);
            FOR n IN 1 .. 2 LOOP
                -- so many positions are so many events, unless there are gaps
                upto := CASE WHEN taken.events IS NOT NULL THEN taken.upto
                    WHEN n = 1 THEN least(at + most, taken.upto)
                    ELSE @extschema@.batch_end(topic, at, taken.upto, most - fresh) END;
                RETURN QUERY EXECUTE @extschema@.handout_query(topic, s, taken.slot, is_holed, taken.has_holes, upto - at,
                    '$7::bigint, $8::uuid, CASE WHEN e.expires_at IS NOT NULL AND e.expires_at <= clock_timestamp() THEN 0 ELSE $9::integer END, e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at, $10::bigint', false)
                USING at, upto, @extschema@.type_operand(s.pattern), s.tenant_id, s.filter, s.filter_path,
                    s.subscription_id, taken.token, taken.attempt, taken.slot, taken;
                GET DIAGNOSTICS got = ROW_COUNT;
                fresh := fresh + got;
                at := upto;
                EXIT WHEN upto = taken.upto OR fresh = most;
                IF taken.has_holes THEN
                    -- what waits for a failed one was parked, no more of it than were asked for; but a gap is passed over
                    EXIT WHEN fresh > 0;
                    EXIT WHEN EXISTS (SELECT FROM @extschema@.retries r
                        WHERE r.subscription_id = s.subscription_id AND r."position" > taken.after AND r."position" <= upto);
                END IF;
            END LOOP;
            IF taken.events IS NULL THEN
                taken.upto := at;
                taken.events := fresh;
                taken := @extschema@.write_lease(taken, lease);
                IF taken.token IS NULL AND at < due.h THEN
                    -- all of it has to wait for what failed
                    "position" := at;
                    RETURN NEXT;
                END IF;
            ELSIF fresh < taken.events THEN
                taken.events := fresh;
                PERFORM @extschema@.shrink_lease(taken);
                IF fresh + taken.retries = 0 THEN
                    -- all of it has to wait for what failed
                    taken.token := NULL;
                    "position" := taken.upto;
                    RETURN NEXT;
                END IF;
            END IF;
        END IF;
        CONTINUE WHEN taken.token IS NULL;
        served := due.place;
        IF taken.is_tracked THEN
            PERFORM @extschema@.track_claim(s, topic, taken.token);
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION @extschema@.claim_many(bigint[], integer[], interval, text, boolean, integer) IS
    'For workers: claim() for several subscriptions, in the order given, with one read of the in-flight register. First row is a header: subscription_id 0, attempt = other listening sessions, "position" = a number that changes whenever anything new is readable in any topic, members = 0 if everything that was in the log when the look began is readable. Then whole events by token and position, of each subscription at most one token; attempt 0 says that the event has expired: do not handle it, settle it with verdict expired. A row with a subscription and no token says that only a part of what is readable was looked at and nothing of it was handed out: claim again. members: slot of the lease. shared: subscriptions of one topic that are at the same place may be claimed by one read: first the events that any of them wants, subscription_id -1 and no token, members = a bit for each that wants it; right behind them one row for each such subscription, with its token, no id, "position" = end of its range, members = its bit. ranges: a subscription that wants every event of so many positions or more, without limits, retries or tracking, may get a lease of a range without its events: one row with its token, no id, "position" and version = the range, the first excluded, members = how far the log can be read. Read it in a later statement. READ COMMITTED only (TL005).';
