CREATE OR REPLACE FUNCTION @extschema@.take_retries(s @extschema@.subscriptions, of_slot integer, lease_token uuid, room integer)
    RETURNS integer LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    due   bigint[];
    alone boolean;
BEGIN
    IF room < 1 THEN
        RETURN 0;
    END IF;
    SELECT array_agg(q."position" ORDER BY q."position"), bool_or(q.solo) INTO due, alone FROM (
        SELECT r."position", r.solo FROM @extschema@.retries r
         WHERE r.subscription_id = s.subscription_id AND r.slot = of_slot AND r.token IS NULL
           AND r.next_attempt_at <= clock_timestamp()
         ORDER BY r.next_attempt_at LIMIT room FOR UPDATE SKIP LOCKED) q;
    IF due IS NULL THEN
        RETURN 0;
    END IF;
    IF alone THEN
        SELECT ARRAY[min(r."position")] INTO due FROM @extschema@.retries r
         WHERE r.subscription_id = s.subscription_id AND r."position" = ANY (due) AND r.solo;
    END IF;
    UPDATE @extschema@.retries r SET token = lease_token, attempt = r.attempt + 1
     WHERE r.subscription_id = s.subscription_id AND r."position" = ANY (due);
    RETURN CASE WHEN alone THEN -1 ELSE cardinality(due) END;
END $$;
COMMENT ON FUNCTION @extschema@.take_retries(@extschema@.subscriptions, integer, uuid, integer) IS
    'Internal: put due retries under a lease; how many, or -1 for one that a crash left and that must be tried alone.';
