-- One read of a topic for several subscriptions that are at the same place: a claim for all of them
-- in one statement, which writes their leases and cursors as well. Only for those without anything
-- that a plain range does not say; the others are claimed one by one.
CREATE OR REPLACE FUNCTION @extschema@.shared_claim(
        topic text, wanted bigint[], at bigint,
        OUT ids bigint[], OUT operands text[], OUT tenants text[], OUT filters jsonb[], OUT paths jsonpath[], OUT query text)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s      @extschema@.subscriptions;
    masks  bigint[] := '{}'; -- of each condition
    mask   text;
    counts text := '';
    always bigint := 0;
    n      integer := 0;
    i      integer;
    text_i text;
    now_at timestamptz := clock_timestamp();
BEGIN
    operands := '{}';
    tenants := '{}';
    filters := '{}';
    paths := '{}';
    SELECT array_agg(q.subscription_id) INTO wanted FROM (
        SELECT c.subscription_id FROM @extschema@.cursors c
         WHERE c.subscription_id = ANY (wanted) AND c.slot = 0 ORDER BY c.subscription_id FOR UPDATE SKIP LOCKED) q;
    -- A later statement than the locks: it sees every lease given, every change made before.
    FOR s IN SELECT x.* FROM @extschema@.subscriptions x JOIN @extschema@.cursors c USING (subscription_id)
         WHERE x.subscription_id = ANY (wanted) AND x.active AND c.cursor = at AND x.slots = 1 AND x.track = 'none'
           AND (x.resize_at, x.drain_at, x.max_in_flight, x.rate_limit) IS NULL
           AND NOT EXISTS (SELECT FROM @extschema@.leases l
                            WHERE l.subscription_id = x.subscription_id AND (x.ordering <> 'none' OR NOT l.held OR l.until <= clock_timestamp()))
           AND NOT EXISTS (SELECT FROM @extschema@.replays p WHERE p.subscription_id = x.subscription_id)
           AND NOT EXISTS (SELECT FROM @extschema@.retries r WHERE r.subscription_id = x.subscription_id AND r."position" > at)
           AND NOT EXISTS (SELECT FROM @extschema@.retries r WHERE r.subscription_id = x.subscription_id AND r.key IS NOT NULL)
           AND NOT EXISTS (SELECT FROM @extschema@.retries r
                            WHERE r.subscription_id = x.subscription_id AND r.slot = 0 AND r.token IS NULL AND r.next_attempt_at <= now_at)
         ORDER BY x.subscription_id
    LOOP
        ids := ids || s.subscription_id;
        IF s.pattern IN ('*', '**') AND s.tenant_id IS NULL AND s.filter IS NULL AND s.filter_path IS NULL THEN
            always := always | (1::bigint << n);
        ELSE
            -- equal conditions are asked once
            i := (SELECT k FROM generate_subscripts(masks, 1) k
                   WHERE operands[k] = s.pattern AND tenants[k] IS NOT DISTINCT FROM s.tenant_id
                     AND filters[k] IS NOT DISTINCT FROM s.filter AND paths[k]::text IS NOT DISTINCT FROM s.filter_path::text LIMIT 1);
            IF i IS NULL THEN
                i := cardinality(masks) + 1;
                operands[i] := s.pattern;
                tenants[i] := s.tenant_id;
                filters[i] := s.filter;
                paths[i] := s.filter_path;
                masks[i] := 0;
            END IF;
            masks[i] := masks[i] | (1::bigint << n);
        END IF;
        counts := counts || format('%scount(*) FILTER (WHERE r.members & %s <> 0)', CASE WHEN n > 0 THEN ', ' ELSE '' END, 1::bigint << n);
        n := n + 1;
    END LOOP;
    IF n < 2 THEN
        ids := NULL;
        RETURN;
    END IF;
    mask := always::text;
    FOR i IN 1 .. cardinality(masks) LOOP
        text_i := @extschema@.type_condition(operands[i], format('$4[%s]', i))
            || CASE WHEN tenants[i] IS NULL THEN '' ELSE format(' AND e.tenant_id = $5[%s]', i) END
            || CASE WHEN filters[i] IS NULL THEN '' ELSE format(' AND e.data @> $6[%s]', i) END
            || CASE WHEN paths[i] IS NULL THEN '' ELSE format(' AND jsonb_path_match_tz(e.data, $7[%s], ''{}'', true)', i) END;
        mask := mask || format(' | CASE WHEN true%s THEN %s ELSE 0 END', text_i, masks[i]);
        operands[i] := @extschema@.type_operand(operands[i]);
    END LOOP;
    query := format('WITH r AS MATERIALIZED (
        SELECT CASE WHEN e.expires_at IS NOT NULL AND e.expires_at <= clock_timestamp() THEN 0 ELSE 1 END AS attempt,
               e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb,
               e.metadata::jsonb, e.expires_at, e.created_at, (%s)::bigint AS members
          FROM @extschema@.%I e WHERE e."position" > $1 AND e."position" <= $2 ORDER BY e."position" LIMIT $3),
    a AS MATERIALIZED (
        SELECT CASE WHEN count(*) < $3 THEN $2 ELSE max(r."position") END AS upto, ARRAY[%s] AS counts FROM r),
    m AS MATERIALIZED (
        SELECT u.subscription_id, gen_random_uuid() AS token, 1::bigint << (u.n - 1)::integer AS bit, a.upto, a.counts[u.n] AS events
          FROM a, unnest($8) WITH ORDINALITY AS u(subscription_id, n)),
    moved AS (
        UPDATE @extschema@.cursors c
           SET cursor = m.upto, epoch = c.epoch + CASE WHEN m.events > 0 THEN 1 ELSE 0 END,
               last_triggered_at = CASE WHEN m.events > 0 THEN clock_timestamp() ELSE c.last_triggered_at END
          FROM m WHERE c.subscription_id = m.subscription_id AND c.slot = 0 RETURNING c.subscription_id, c.epoch),
    leased AS (
        INSERT INTO @extschema@.leases (token, subscription_id, slot, after, upto, events, retries, attempt, epoch, owner, held, solo, until)
        SELECT m.token, m.subscription_id, 0, $1, m.upto, m.events, 0, 1, moved.epoch, $9, true, false, clock_timestamp() + $10
          FROM m JOIN moved USING (subscription_id) WHERE m.events > 0)
    SELECT -1::bigint, NULL::uuid, r.* FROM r WHERE r.members <> 0
    UNION ALL
    SELECT m.subscription_id, CASE WHEN m.events > 0 THEN m.token END, CASE WHEN m.events > 0 THEN 1 END, m.upto, NULL::uuid, NULL, NULL, NULL,
           NULL::bigint, NULL, NULL, NULL::jsonb, NULL::jsonb, NULL::timestamptz, NULL::timestamptz, CASE WHEN m.events > 0 THEN m.bit END
      FROM m WHERE m.events > 0 OR m.upto < $2 AND NOT EXISTS (SELECT FROM m x WHERE x.events > 0)',
        mask, 'topic_' || topic, counts);
END $$;
COMMENT ON FUNCTION @extschema@.shared_claim(text, bigint[], bigint) IS
    'Internal: lock the cursors of those of these subscriptions that can be claimed together from a position on, and make the query that does so: $1 that position, $2 horizon, $3 room, $4 to $7 operands, tenants, filters, paths, $8 ids, $9 owner, $10 duration. ids NULL: fewer than two.';
