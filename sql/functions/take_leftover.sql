-- Part of take_lease(), under its lock on the cursor: what a crash or a release left in the slot.
CREATE OR REPLACE FUNCTION @extschema@.take_leftover(
        s @extschema@.subscriptions, topic text, new @extschema@.leases, room integer)
    RETURNS @extschema@.leases LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    old        @extschema@.leases;
    operand    text := @extschema@.type_operand(s.pattern);
    is_blocked boolean := false;
    matched    integer;
    rest       integer;
    last_seen  bigint;
    was_alone  boolean;
BEGIN
    IF s.on_failure = 'stop' THEN
        -- it may have to stop; whoever changes it now has locks that come before ours
        PERFORM FROM @extschema@.subscriptions x WHERE x.subscription_id = s.subscription_id FOR NO KEY UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    new.events := 0;
    IF @extschema@.order_key(s, NULL) IS NOT NULL THEN
        -- all wait for what failed: fence who was lost, free what they had of it, hand nothing out
        FOR old IN SELECT * FROM @extschema@.leases l
             WHERE l.subscription_id = s.subscription_id AND l.slot = new.slot
               AND (NOT l.held AND l.retries > 0 OR l.held AND l.until <= clock_timestamp())
             ORDER BY l.after, l.token FOR UPDATE SKIP LOCKED
        LOOP
            IF old.held AND old.events = 1 AND old.attempt >= s.max_attempts THEN
                EXECUTE @extschema@.range_query(topic, s, old.slot, old.has_holes, old.upto - old.after, 'count(*)', '') INTO old.events
                    USING old.after, old.upto, operand, s.tenant_id, s.filter, s.filter_path;
            END IF;
            IF old.held AND old.events = 1 AND old.retries = 0 AND old.attempt >= s.max_attempts THEN
                IF @extschema@.condemn(s, topic, old) THEN
                    new.token := NULL;
                END IF;
                CONTINUE;
            END IF;
            IF old.retries > 0 AND @extschema@.abandon_retries(s, topic, old) THEN
                new.token := NULL;
            END IF;
            IF old.events = 0 THEN
                DELETE FROM @extschema@.leases l WHERE l.token = old.token;
            ELSE
                UPDATE @extschema@.leases l
                   SET token = gen_random_uuid(), held = false, retries = 0, solo = old.held OR old.solo
                 WHERE l.token = old.token;
            END IF;
        END LOOP;
        IF new.token IS NULL OR s.ordering = 'total' AND EXISTS (
            SELECT FROM @extschema@.leases l WHERE l.subscription_id = s.subscription_id AND l.slot = new.slot AND l.held)
        THEN
            RETURN NULL;
        ELSIF EXISTS (SELECT FROM @extschema@.retries x WHERE x.subscription_id = s.subscription_id AND x.key IS NOT NULL) THEN
            RETURN new;
        END IF;
    END IF;

    LOOP
        SELECT * INTO old FROM @extschema@.leases l
         WHERE l.subscription_id = s.subscription_id AND l.slot = new.slot
           AND (NOT l.held OR l.until <= clock_timestamp())
         ORDER BY l.after, l.token LIMIT 1 FOR UPDATE SKIP LOCKED;
        EXIT WHEN NOT FOUND;
        -- in order: an earlier one that was locked is being settled, and may yet come back
        IF s.ordering <> 'none' AND EXISTS (
            SELECT FROM @extschema@.leases l WHERE l.subscription_id = s.subscription_id AND l.slot = new.slot AND l.after < old.after)
        THEN
            RETURN NULL;
        END IF;
        IF s.ordering <> 'none' AND old.held THEN
            -- its owner may have another behind it (claim_ahead()): fenced as well, or that could be settled before this one
            UPDATE @extschema@.leases l SET token = gen_random_uuid(), held = false, solo = true
             WHERE l.token IN (SELECT x.token FROM @extschema@.leases x
                    WHERE x.subscription_id = s.subscription_id AND x.slot = new.slot AND x.held AND x.token <> old.token AND x.retries = 0
                      FOR UPDATE SKIP LOCKED);
            IF EXISTS (SELECT FROM @extschema@.leases l
                        WHERE l.subscription_id = s.subscription_id AND l.slot = new.slot AND l.held AND l.token <> old.token AND l.retries = 0)
            THEN
                RETURN NULL; -- it is being settled
            END IF;
        END IF;
        -- or who is to blame must be sure: the subscription may want more of the range by now
        IF old.events IS NULL OR old.held AND old.events = 1 AND old.attempt >= s.max_attempts THEN
            EXECUTE @extschema@.range_query(topic, s, old.slot, old.has_holes, old.upto - old.after, 'count(*)', '') INTO old.events
                USING old.after, old.upto, operand, s.tenant_id, s.filter, s.filter_path;
        END IF;
        was_alone := old.events = 1 AND old.retries = 0;
        IF old.retries > 0 THEN
            IF @extschema@.abandon_retries(s, topic, old) THEN
                DELETE FROM @extschema@.leases l WHERE l.token = old.token; -- it was alone in it
                RETURN NULL;
            END IF;
            old.retries := 0;
        END IF;
        IF old.held AND was_alone AND old.attempt >= s.max_attempts THEN
            IF @extschema@.condemn(s, topic, old) THEN
                RETURN NULL;
            END IF;
            CONTINUE;
        END IF;
        -- asked with the lease in hand: an ack of a part of it may just have ended
        IF s.ordering = 'key' AND s.on_failure <> 'retry' THEN
            is_blocked := EXISTS (SELECT FROM @extschema@.retries x WHERE x.subscription_id = s.subscription_id AND x.key IS NOT NULL);
        END IF;
        IF is_blocked THEN
            old.has_holes := true;
            old.events := greatest(old.events - @extschema@.park_blocked(s, topic, old), 0);
        END IF;
        EXECUTE format('SELECT count(*), max(p) FROM (%s) q', @extschema@.range_query(topic, s, old.slot, old.has_holes, old.upto - old.after, 'e."position" AS p', 'ORDER BY 1 LIMIT $7'))
            INTO matched, last_seen
            USING old.after, old.upto, operand, s.tenant_id, s.filter, s.filter_path,
                -- handed back in order: goes on as a whole
                CASE WHEN old.held OR old.solo THEN 1 ELSE room END;
        IF matched = 0 THEN
            DELETE FROM @extschema@.leases l WHERE l.token = old.token;
            CONTINUE;
        END IF;
        IF old.events <= matched AND last_seen < old.upto THEN
            -- it may want more by now than was counted then
            EXECUTE @extschema@.range_query(topic, s, old.slot, old.has_holes, old.upto - last_seen, 'count(*)', '') INTO rest
                USING last_seen, old.upto, operand, s.tenant_id, s.filter, s.filter_path;
            old.events := matched + rest;
        END IF;
        new.after := old.after;
        new.upto := last_seen;
        new.events := matched;
        -- a crash in company at the last attempt: tried once more, alone, under the same number
        new.attempt := least(old.attempt + 1, s.max_attempts);
        new.has_holes := old.has_holes;
        new.is_tracked := old.is_tracked;
        new.replay_id := old.replay_id;
        IF old.events > matched THEN
            UPDATE @extschema@.leases l
               SET token = gen_random_uuid(), after = last_seen, events = old.events - matched, retries = 0,
                   held = false, solo = old.held OR old.solo, has_holes = old.has_holes
             WHERE l.token = old.token;
        ELSE
            DELETE FROM @extschema@.leases l WHERE l.token = old.token;
        END IF;
        RETURN new;
    END LOOP;
    -- one that has expired but is being settled this moment: it may yet come back
    IF s.ordering <> 'none' AND EXISTS (
        SELECT FROM @extschema@.leases l WHERE l.subscription_id = s.subscription_id AND l.slot = new.slot)
    THEN
        RETURN NULL;
    END IF;
    RETURN new;
END $$;
COMMENT ON FUNCTION @extschema@.take_leftover(@extschema@.subscriptions, text, @extschema@.leases, integer) IS
    'Internal: the next lease of a slot out of those that were lost or handed back. Without events: there is none, go on; its token NULL: nothing may be handed out now.';
