CREATE OR REPLACE FUNCTION @extschema@.allowance(s @extschema@.subscriptions, takes boolean) RETURNS integer
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t    @extschema@.throttles;
    room bigint := 1000000;
BEGIN
    IF takes THEN
        -- slots are claimed side by side: one at a time looks how much there is
        LOOP
            SELECT * INTO t FROM @extschema@.throttles x WHERE x.subscription_id = s.subscription_id FOR UPDATE;
            EXIT WHEN FOUND;
            INSERT INTO @extschema@.throttles (subscription_id, tokens)
                VALUES (s.subscription_id, greatest(1, coalesce(s.rate_limit, 1))) ON CONFLICT DO NOTHING;
        END LOOP;
    ELSE
        SELECT * INTO t FROM @extschema@.throttles x WHERE x.subscription_id = s.subscription_id;
    END IF;
    IF s.rate_limit IS NOT NULL AND t.subscription_id IS NOT NULL THEN
        room := floor(@extschema@.tokens(t.tokens, t.refilled_at, s.rate_limit));
    END IF;
    IF s.max_in_flight IS NOT NULL THEN
        room := least(room, s.max_in_flight - (SELECT coalesce(sum(coalesce(l.events, 0) + l.retries), 0) FROM @extschema@.leases l
            WHERE l.subscription_id = s.subscription_id AND l.held AND l.until > clock_timestamp()));
    END IF;
    RETURN greatest(room, 0);
END $$;
COMMENT ON FUNCTION @extschema@.allowance(@extschema@.subscriptions, boolean) IS
    'Internal: how many events max_in_flight and rate_limit let a subscription be handed now; takes: until the end of the transaction nobody else asks.';
