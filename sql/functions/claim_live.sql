-- What a worker runs each time it looks. The common cases take few statements, each planned once for a session:
-- nothing is new, or a few fresh events for one subscription without anything out of the ordinary. Everything
-- else is left to claim_many(). Both write the same leases under the same lock.
CREATE OR REPLACE FUNCTION @extschema@.claim_live(
        subscriptions bigint[], capacity integer[], lease interval, owner text, ranges integer, known bigint, keeps boolean)
    RETURNS TABLE (subscription_id bigint, token uuid, attempt integer, "position" bigint, id uuid, type text, source text,
        stream text, version bigint, key text, tenant_id text, data jsonb, metadata jsonb, expires_at timestamptz,
        created_at timestamptz, members bigint)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    numbers   integer[];
    names     text[];
    sequences regclass[];
    lasts     bigint[];
    horizons  bigint[];
    total     bigint := 0;
    it        record;
    now       record;
    chosen    bigint := claim_live.subscriptions[1];
    room      integer := claim_live.capacity[1];
    place     integer; -- of its topic
    seen      bigint;  -- its cursor, if it has no order
    others    integer;
    is_quick  boolean;
    is_quiet  boolean;
    mine      xid8;
    h         bigint;
    n         integer;
    new_token uuid;
    reads     text;
    columns   CONSTANT text := 'CASE WHEN e.expires_at IS NOT NULL AND e.expires_at <= clock_timestamp() THEN 0 ELSE 1 END, e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at';
    now_at    timestamptz := clock_timestamp(); -- not the function itself, of which no index is asked
BEGIN
    IF known IS NULL OR lease IS NULL OR lease < interval '1 ms' OR lease > interval '1 day'
       OR current_setting('transaction_isolation') <> 'read committed'
    THEN
        RETURN QUERY SELECT * FROM @extschema@.claim_many(claim_live.subscriptions, claim_live.capacity, lease, claim_live.owner, true, ranges);
        RETURN;
    END IF;
    SELECT array_agg(t.topic_id), array_agg(t.name), array_agg(q.sequence), array_agg(pg_sequence_last_value(q.sequence)),
           (SELECT s.topic_id FROM @extschema@.subscriptions s
             WHERE s.subscription_id = chosen AND s.active AND s.slots = 1 AND s.resize_at IS NULL)
      INTO numbers, names, sequences, horizons, place
      FROM @extschema@.topics t CROSS JOIN LATERAL (SELECT to_regclass('@extschema@.position_' || t.name) AS sequence OFFSET 0) q;
    lasts := horizons;
    FOREACH h IN ARRAY coalesce(horizons, '{}') LOOP
        total := total + h;
    END LOOP;
    -- Something is new, and only one may want it: mostly it has nothing else. The look comes when there was nothing for it.
    -- Not of several slots: who took another of them would hold the first from others meanwhile.
    is_quick := coalesce(total <> known AND place IS NOT NULL AND room > 0 AND cardinality(claim_live.subscriptions) = 1 AND cardinality(claim_live.capacity) = 1, false);
    LOOP
        IF is_quick THEN
            n := 1;
            place := array_position(numbers, place);
        ELSE
            -- one that may not be seen: claim_many() says so
            n := CASE WHEN total IS NULL OR cardinality(claim_live.subscriptions) <> cardinality(claim_live.capacity) THEN 2 ELSE 0 END;
            -- OFFSET 0 and scalar subqueries with an order: see claim_many()
            FOR it IN
                SELECT s.subscription_id, u.room, x.i, CASE WHEN s.ordering = 'none' THEN c.cursor END AS seen,
                       s.slots = 1 AND (s.resize_at, s.drain_at) IS NULL AND NOT v.has_replays AND l.held IS DISTINCT FROM 0 AND r.is_due IS NULL AND u.room IS NOT NULL AS is_plain
                  FROM (SELECT claim_live.subscriptions AS ids, claim_live.capacity AS rooms, numbers AS topic_ids, horizons AS lasts,
                               EXISTS (SELECT FROM @extschema@.replays) AS has_replays, now_at AS at OFFSET 0) v
                 CROSS JOIN LATERAL unnest(v.ids, v.rooms) u(subscription_id, room)
                  JOIN @extschema@.subscriptions s ON s.subscription_id = u.subscription_id AND s.active
                       AND (s.mode = 'async' OR s.target IS NULL OR s.target NOT LIKE 'sql:%')
                  JOIN @extschema@.cursors c ON c.subscription_id = s.subscription_id
                 CROSS JOIN LATERAL (SELECT array_position(v.topic_ids, s.topic_id) AS i OFFSET 0) x
                 -- 0: one of its leases was lost or handed back, 1: all are held, NULL: there is none
                 CROSS JOIN LATERAL (SELECT min((l.held AND l.until > v.at)::integer) AS held FROM @extschema@.leases l
                                      WHERE l.subscription_id = s.subscription_id AND l.slot = c.slot) l
                 CROSS JOIN LATERAL (SELECT (SELECT true FROM @extschema@.retries r
                              WHERE r.subscription_id = s.subscription_id AND r.slot = c.slot AND r.token IS NULL AND r.next_attempt_at <= v.at
                              ORDER BY r.next_attempt_at LIMIT 1) AS is_due OFFSET 0) r
                 WHERE c.cursor < v.lasts[x.i] AND (l.held IS NULL OR s.ordering = 'none') OR l.held = 0 OR r.is_due
                    OR (s.resize_at, s.drain_at) IS NOT NULL OR v.has_replays OR u.room IS NULL
                 LIMIT 2
            LOOP
                n := CASE WHEN it.is_plain THEN n + 1 ELSE 2 END;
                chosen := it.subscription_id;
                room := it.room;
                place := it.i;
                seen := it.seen;
            END LOOP;
        END IF;
        EXIT WHEN n > 1;
        IF others IS NULL AND (n = 1 OR total <> known) THEN
            -- Is nobody at all in flight? Then the last values are the horizons (decision 14). Our own number is drawn after they
            -- were read: whoever got one of these positions has a lower one, and is running unless it has ended.
            is_quiet := pg_current_xact_id_if_assigned() IS NULL AND pg_snapshot_xmin(pg_current_snapshot()) = pg_snapshot_xmax(pg_current_snapshot());
            IF is_quiet THEN
                mine := pg_current_xact_id();
                is_quiet := pg_snapshot_xmin(pg_current_snapshot()) = mine;
            END IF;
            IF NOT is_quiet THEN
                horizons := @extschema@.register_horizons(sequences);
                others := horizons[cardinality(horizons)];
                horizons := trim_array(horizons, 1);
                total := 0;
                FOREACH h IN ARRAY horizons LOOP
                    total := total + h;
                END LOOP;
            END IF;
        END IF;
        -- Counted after the look. Our own share of the lock is not in our way; one expression, so that nothing comes between.
        others := coalesce(others, CASE WHEN pg_try_advisory_lock(@extschema@.lock_class(), 2) AND pg_advisory_unlock(@extschema@.lock_class(), 2) THEN 0 ELSE 1 END);
        EXIT WHEN n = 0;
        h := horizons[place];
        SELECT c.cursor, c.epoch INTO now FROM @extschema@.cursors c
         WHERE c.subscription_id = chosen AND c.slot = 0 AND c.cursor < h FOR UPDATE SKIP LOCKED;
        IF FOUND THEN
            n := 2;
            IF h - now.cursor <= least(room, coalesce(ranges - 1, 255)) THEN
                new_token := gen_random_uuid();
                -- A later statement than the lock on the cursor: it sees every lease given, every change made before.
                -- As many events as positions, as long as no gap is known.
                INSERT INTO @extschema@.leases (token, subscription_id, slot, after, upto, events, retries, attempt, epoch, owner, held, solo, until)
                SELECT new_token, s.subscription_id, 0, now.cursor, h, h - now.cursor, 0, 1, now.epoch + 1,
                       coalesce(claim_live.owner, current_setting('application_name')), true, false, clock_timestamp() + lease
                  FROM @extschema@.subscriptions s
                 WHERE s.subscription_id = chosen AND s.topic_id = numbers[place] AND s.active AND s.slots = 1 AND s.pattern IN ('*', '**') AND s.track IS DISTINCT FROM 'all'
                   AND (s.mode = 'async' OR s.target IS NULL OR s.target NOT LIKE 'sql:%')
                   AND (s.tenant_id, s.filter, s.filter_path, s.max_in_flight, s.rate_limit, s.resize_at, s.drain_at) IS NULL
                   AND NOT EXISTS (SELECT FROM @extschema@.leases l WHERE l.subscription_id = s.subscription_id
                                      AND (s.ordering <> 'none' OR NOT l.held OR l.until <= clock_timestamp()))
                   AND NOT EXISTS (SELECT FROM @extschema@.retries r WHERE r.subscription_id = s.subscription_id)
                   AND NOT EXISTS (SELECT FROM @extschema@.replays p WHERE p.subscription_id = s.subscription_id);
                n := CASE WHEN FOUND THEN 1 ELSE 2 END;
            END IF;
            EXIT;
        END IF;
        -- It is in flight, or another claimer is at it, who will hold the one lease there is, or, without an order, may leave
        -- something: claim_many() waits for him.
        n := CASE WHEN seen < h THEN 2 ELSE 0 END;
        EXIT WHEN NOT is_quick;
        is_quick := false;
    END LOOP;
    IF n > 1 THEN
        RETURN QUERY SELECT * FROM @extschema@.claim_many(claim_live.subscriptions, claim_live.capacity, lease, claim_live.owner, true, ranges);
        RETURN;
    END IF;
    subscription_id := 0;
    attempt := others;
    "position" := total;
    members := (horizons <> lasts)::integer;
    RETURN NEXT;
    IF n = 0 THEN
        RETURN;
    END IF;
    n := 0;
    IF keeps AND h - now.cursor <= 4 THEN
        -- A plan for all values locks every leaf of the topic, so not of many. The number of the process hides the value from
        -- the planner, who would else make a plan for each; it is known when a plan is started, which leaves out the other leaves.
        reads := 'trunkline_live_' || sequences[place]::oid;
        BEGIN
            FOR at IN now.cursor + 1 .. h LOOP
                EXECUTE format('EXECUTE %I(%s)', reads, at)
                    INTO attempt, "position", id, type, source, stream, version, key, tenant_id, data, metadata, expires_at, created_at;
                CONTINUE WHEN id IS NULL; -- a gap
                subscription_id := chosen;
                token := new_token;
                members := 0;
                n := n + 1;
                RETURN NEXT;
            END LOOP;
        EXCEPTION WHEN invalid_sql_statement_name THEN
            keeps := false; -- from the next time on
            IF (SELECT count(*) FROM (SELECT FROM @extschema@.leaves l WHERE l.topic_id = numbers[place] LIMIT 9) q) <= 8 THEN
                EXECUTE format('PREPARE %I(bigint) AS SELECT %s FROM @extschema@.%I e WHERE e."position" = $1 + 0 * pg_backend_pid()', reads, columns, 'topic_' || names[place]);
            END IF;
        END;
    ELSE
        keeps := false;
    END IF;
    IF NOT keeps THEN
        RETURN QUERY EXECUTE format('SELECT $3, $4, %s, 0::bigint FROM @extschema@.%I e WHERE e."position" > $1 AND e."position" <= $2 ORDER BY e."position"', columns, 'topic_' || names[place])
            USING now.cursor, h, chosen, new_token;
        GET DIAGNOSTICS n = ROW_COUNT;
    END IF;
    IF n = 0 THEN
        DELETE FROM @extschema@.leases l WHERE l.token = new_token;
    ELSIF n < h - now.cursor THEN
        UPDATE @extschema@.leases l SET events = n WHERE l.token = new_token;
    END IF;
    UPDATE @extschema@.cursors c
       SET cursor = h, epoch = now.epoch + (n > 0)::integer, last_triggered_at = CASE WHEN n > 0 THEN clock_timestamp() ELSE c.last_triggered_at END
     WHERE c.subscription_id = chosen AND c.slot = 0;
END $$;
COMMENT ON FUNCTION @extschema@.claim_live(bigint[], integer[], interval, text, integer, bigint, boolean) IS
    'For workers that look again and again: claim_many(shared => true) with the same rows, cheaper where nothing is new, or where a few fresh events are for one subscription that wants every event and has nothing waiting, no limit and one slot. known: "position" of the header of the last look in this session, NULL: none. keeps: the session is the caller''s own, so that prepared statements may stay in it. Header: attempt is at least 1 if other sessions listen, not always their number; members is 0 if everything that was in the log when the look began is readable.';
