CREATE OR REPLACE FUNCTION @extschema@.claim_many(
        subscriptions bigint[], capacity integer[], lease interval DEFAULT interval '30 s', owner text DEFAULT NULL)
    RETURNS TABLE (subscription_id bigint, token uuid, attempt integer, "position" bigint, id uuid, type text, source text,
        stream text, version bigint, key text, tenant_id text, data jsonb, metadata jsonb, expires_at timestamptz,
        created_at timestamptz, members bigint)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    -- the log is read along its primary key, whatever the statistics of a young leaf say
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    numbers  integer[];
    sequences regclass[];
    horizons bigint[];
    s        @extschema@.subscriptions;
    taken    @extschema@.leases;
    topic    text;
    due      record;
    found_events integer;
BEGIN
    PERFORM @extschema@.check_lease(lease);
    IF cardinality(subscriptions) IS DISTINCT FROM cardinality(capacity) THEN
        PERFORM @extschema@.fail('TL005', 'capacity has another length than subscriptions', '{"field": "capacity"}');
    END IF;
    SELECT array_agg(t.topic_id), array_agg(to_regclass('@extschema@.position_' || t.name)) INTO numbers, sequences
      FROM @extschema@.topics t;
    horizons := @extschema@.register_horizons(sequences);
    -- header: whether anything became readable anywhere, and whether others are to be told
    subscription_id := 0;
    attempt := horizons[cardinality(horizons)];
    horizons := trim_array(horizons, 1);
    "position" := (SELECT sum(h) FROM unnest(horizons) h);
    RETURN NEXT;
    -- only those that may have something: one look at all of them, which locks and writes nothing
    FOR due IN
        SELECT s, t.name AS topic, u.room, h
          FROM unnest(claim_many.subscriptions, claim_many.capacity) WITH ORDINALITY u(subscription_id, room, place)
          JOIN @extschema@.subscriptions s ON s.subscription_id = u.subscription_id AND s.active
               AND (s.mode = 'async' OR s.target IS NULL OR s.target NOT LIKE 'sql:%')
          JOIN @extschema@.topics t ON t.topic_id = s.topic_id
          JOIN @extschema@.cursors c ON c.subscription_id = s.subscription_id AND c.slot = 0
          JOIN LATERAL (SELECT horizons[array_position(numbers, s.topic_id)] AS h OFFSET 0) now ON h IS NOT NULL
         WHERE u.room > 0
           AND (EXISTS (SELECT FROM @extschema@.leases l
                         WHERE l.subscription_id = s.subscription_id AND (NOT l.held OR l.until <= clock_timestamp()))
                OR (c.cursor < h
                    OR EXISTS (SELECT FROM @extschema@.retries r
                                WHERE r.subscription_id = s.subscription_id AND r.token IS NULL AND r.next_attempt_at <= clock_timestamp()))
                   AND (s.ordering = 'none' OR NOT EXISTS (SELECT FROM @extschema@.leases l
                                                            WHERE l.subscription_id = s.subscription_id)))
         ORDER BY u.place
    LOOP
        s := due.s;
        topic := due.topic;
        taken := @extschema@.take_lease(s, topic, NULL, least(due.room, 10000), lease, due.h,
            coalesce(claim_many.owner, current_setting('application_name')));
        IF taken.token IS NULL THEN
            IF taken.upto < due.h THEN
                RETURN QUERY SELECT s.subscription_id, NULL::uuid, NULL::integer, taken.upto,
                    NULL::uuid, NULL, NULL, NULL, NULL::bigint, NULL, NULL, NULL::jsonb, NULL::jsonb, NULL::timestamptz, NULL::timestamptz, NULL::bigint;
            END IF;
            CONTINUE;
        END IF;
        IF taken.retries > 0 THEN
            RETURN QUERY EXECUTE @extschema@.retries_query(topic, true) USING taken.token;
        END IF;
        IF taken.events IS DISTINCT FROM 0 THEN
            RETURN QUERY EXECUTE @extschema@.range_query(topic, s, taken.upto - taken.after,
                    '$7::bigint, $8::uuid, $9::integer, e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at, $10::bigint', 'ORDER BY e."position"')
                USING taken.after, taken.upto, @extschema@.pattern_regex(s.pattern), s.tenant_id, s.filter, s.filter_path,
                    s.subscription_id, taken.token, taken.attempt, taken.slot;
        END IF;
        IF taken.events IS NULL THEN
            GET DIAGNOSTICS found_events = ROW_COUNT;
            taken.events := found_events;
            PERFORM @extschema@.write_lease(taken, lease);
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION @extschema@.claim_many(bigint[], integer[], interval, text) IS
    'For workers: claim() for several subscriptions, in the order given, with one read of the in-flight register. First row is a header: subscription_id 0, attempt = other listening sessions, "position" = a number that changes whenever anything new is readable in any topic. Then whole events by token and position, of each subscription at most one token; a row with a subscription and no token says that only a part of what is readable was looked at and none of it matched: claim again. members: slot of the lease. READ COMMITTED only (TL005).';
