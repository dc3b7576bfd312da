CREATE OR REPLACE FUNCTION @extschema@.choose_replay(s @extschema@.subscriptions, cur @extschema@.cursors, h bigint)
    RETURNS @extschema@.replays LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p @extschema@.replays;
BEGIN
    IF cur.cursor < h AND random() < 0.5 THEN
        RETURN NULL;
    END IF;
    SELECT * INTO p FROM @extschema@.replays x
     WHERE x.subscription_id = s.subscription_id AND x.slot = cur.slot ORDER BY x.replay_id LIMIT 1 FOR UPDATE;
    IF p.rate IS NULL THEN
        p.tokens := 1000000;
    ELSE
        p.tokens := @extschema@.tokens(p.tokens, p.refilled_at, p.rate);
    END IF;
    IF p.tokens < 1 THEN
        RETURN NULL;
    END IF;
    RETURN p;
END $$;
COMMENT ON FUNCTION @extschema@.choose_replay(@extschema@.subscriptions, @extschema@.cursors, bigint) IS
    'Internal: the replay that this claim of a slot serves, with the events it may take now as tokens; NULL: the live events, whose turn it is every other time, or whenever the replay has to wait.';
