-- Of a key with a queue only the first is looked for; those right behind it that are due as well may come along, of each key
-- its share of the room. Never a join, which might read all that waits; not `=`: see park(). Scalar subqueries: where
-- the planner sees the values, it plans this anew in each call.
CREATE OR REPLACE FUNCTION @extschema@.take_retries(s @extschema@.subscriptions, of_slot integer, lease_token uuid, room integer)
    RETURNS integer LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    due    bigint[];
    keys   text[];
    behind bigint[];
    alone  bigint;
    now_at timestamptz := clock_timestamp();
BEGIN
    IF room < 1 THEN
        RETURN 0;
    END IF;
    SELECT array_agg(q."position"), array_agg(q.key) FILTER (WHERE q.key IS NOT NULL), min(q."position") FILTER (WHERE q.solo)
      INTO due, keys, alone FROM (
        SELECT r."position", r.key, r.solo FROM @extschema@.retries r
         WHERE r.subscription_id = (SELECT s.subscription_id) AND r.slot = (SELECT of_slot) AND r.token IS NULL
           AND r.next_attempt_at <= (SELECT now_at)
           AND (r.key IS NULL OR (SELECT b."position" FROM @extschema@.retries b
                    WHERE b.subscription_id = r.subscription_id AND b.key >= r.key AND b.key <= r.key
                    ORDER BY b.key, b."position" LIMIT 1) = r."position")
         ORDER BY r.next_attempt_at LIMIT (SELECT room) FOR UPDATE SKIP LOCKED) q;
    IF due IS NULL THEN
        RETURN 0;
    END IF;
    IF alone IS NOT NULL THEN
        due := ARRAY[alone];
    ELSIF keys IS NOT NULL AND cardinality(due) < room THEN
        behind := ARRAY(
            SELECT r."position"
              FROM (SELECT s.subscription_id AS id, k.key, 1 + greatest((room - cardinality(due)) / cardinality(keys), 10) AS most
                      FROM unnest(keys) k(key) OFFSET 0) v
             -- how many, up to the first that may not: no more of them are read
             CROSS JOIN LATERAL (SELECT coalesce((
                    SELECT q.n - 1 FROM (SELECT row_number() OVER () AS n, b.token IS NOT NULL OR b.next_attempt_at > now_at OR b.solo AS stops FROM (
                        SELECT * FROM @extschema@.retries x
                         WHERE x.subscription_id = v.id AND x.key >= v.key AND x.key <= v.key ORDER BY x.key, x."position" LIMIT v.most) b) q
                     WHERE q.stops LIMIT 1), v.most) AS n OFFSET 0) w
             CROSS JOIN LATERAL (SELECT x."position" FROM @extschema@.retries x
                     WHERE x.subscription_id = v.id AND x.key >= v.key AND x.key <= v.key ORDER BY x.key, x."position" LIMIT w.n) r
             WHERE NOT r."position" = ANY (due) ORDER BY 1 LIMIT room - cardinality(due));
        due := due || ARRAY(
            SELECT r."position" FROM (SELECT s.subscription_id AS id, p.at FROM unnest(behind) p(at) OFFSET 0) v
             CROSS JOIN LATERAL (SELECT x."position" FROM @extschema@.retries x
                     WHERE x.subscription_id = v.id AND x."position" = v.at AND x.token IS NULL AND x.next_attempt_at <= now_at FOR UPDATE) r);
    END IF;
    -- at its last one already: a crash took it in company, it is tried once more, alone
    UPDATE @extschema@.retries r SET token = lease_token, attempt = least(r.attempt + 1, s.max_attempts)
     WHERE r.subscription_id = s.subscription_id AND r."position" = ANY (due);
    RETURN CASE WHEN alone IS NULL THEN cardinality(due) ELSE -1 END;
END $$;
COMMENT ON FUNCTION @extschema@.take_retries(@extschema@.subscriptions, integer, uuid, integer) IS
    'Internal: put due retries under a lease, of each key in the order of positions and none while an earlier one is elsewhere; how many, or -1 for one that a crash left and that must be tried alone.';
