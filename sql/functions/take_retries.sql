-- Of a key with a queue only the first is looked for; those right behind it that are due as well may come along.
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
         WHERE r.subscription_id = s.subscription_id AND r.slot = of_slot AND r.token IS NULL
           AND r.next_attempt_at <= now_at
           AND (r.key IS NULL OR NOT EXISTS (
                SELECT FROM @extschema@.retries b
                 WHERE b.subscription_id = r.subscription_id AND b.key = r.key AND b."position" < r."position"))
         ORDER BY r.next_attempt_at LIMIT room FOR UPDATE SKIP LOCKED) q;
    IF due IS NULL THEN
        RETURN 0;
    END IF;
    IF alone IS NOT NULL THEN
        due := ARRAY[alone];
    ELSIF keys IS NOT NULL AND cardinality(due) < room THEN
        SELECT array_agg(q."position") INTO behind FROM (
            SELECT r."position" FROM @extschema@.retries r
             WHERE r.subscription_id = s.subscription_id AND r.key = ANY (keys) AND r.token IS NULL
               AND r.next_attempt_at <= now_at AND NOT r.solo AND NOT r."position" = ANY (due)
               AND NOT EXISTS (
                    SELECT FROM @extschema@.retries b
                     WHERE b.subscription_id = r.subscription_id AND b.key = r.key AND b."position" < r."position"
                       AND (b.token IS NOT NULL OR b.next_attempt_at > now_at OR b.solo))
             ORDER BY r."position" LIMIT room - cardinality(due) FOR UPDATE) q;
        due := due || behind;
    END IF;
    -- at its last one already: a crash took it in company, it is tried once more, alone
    UPDATE @extschema@.retries r SET token = lease_token, attempt = least(r.attempt + 1, s.max_attempts)
     WHERE r.subscription_id = s.subscription_id AND r."position" = ANY (due);
    RETURN CASE WHEN alone IS NULL THEN cardinality(due) ELSE -1 END;
END $$;
COMMENT ON FUNCTION @extschema@.take_retries(@extschema@.subscriptions, integer, uuid, integer) IS
    'Internal: put due retries under a lease, of each key in the order of positions and none while an earlier one is elsewhere; how many, or -1 for one that a crash left and that must be tried alone.';
