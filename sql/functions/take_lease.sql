-- The heart of claim(): choose what a claimer gets next and write it down as a lease. Serves, in this
-- order, what a crash or a release left behind, due retries beside fresh events, fresh events.
-- Returns NULL when there is nothing. h: the safe horizon, computed by an earlier statement.
CREATE OR REPLACE FUNCTION @extschema@.take_lease(
        s @extschema@.subscriptions, topic text, only_slot integer, max_events integer, duration interval, h bigint,
        lease_owner text)
    RETURNS @extschema@.leases LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    cur       @extschema@.cursors;
    old       @extschema@.leases;
    new       @extschema@.leases;
    regex     text := @extschema@.pattern_regex(s.pattern);
    room      integer := max_events;
    matched   integer := 0;
    last_seen bigint;
    first_pos bigint;
    was_alone boolean;
BEGIN
    IF s.ordering = 'none' THEN
        SELECT * INTO cur FROM @extschema@.cursors c
         WHERE c.subscription_id = s.subscription_id AND c.slot = coalesce(only_slot, 0) FOR UPDATE;
    ELSE
        -- locked: another claimer is at it, and will hold the one lease of the slot
        SELECT * INTO cur FROM @extschema@.cursors c
         WHERE c.subscription_id = s.subscription_id AND c.slot = coalesce(only_slot, 0) FOR UPDATE SKIP LOCKED;
    END IF;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;

    new.token := gen_random_uuid();
    new.subscription_id := s.subscription_id;
    new.slot := cur.slot;
    new.epoch := cur.epoch + 1;
    new.owner := lease_owner;
    new.held := true;
    new.solo := false;
    new.retries := 0;
    new.after := cur.cursor;
    new.upto := cur.cursor;

    -- A later statement than the lock on the cursor, so it sees every lease given before.
    IF s.ordering <> 'none' AND EXISTS (
        SELECT FROM @extschema@.leases l WHERE l.subscription_id = s.subscription_id AND l.slot = cur.slot
           AND l.held AND l.until > clock_timestamp())
    THEN
        RETURN NULL;
    END IF;

    LOOP
        SELECT * INTO old FROM @extschema@.leases l
         WHERE l.subscription_id = s.subscription_id AND l.slot = cur.slot
           AND (NOT l.held OR l.until <= clock_timestamp())
         ORDER BY l.after, l.token LIMIT 1 FOR UPDATE SKIP LOCKED;
        EXIT WHEN NOT FOUND;
        -- in order: an earlier one that was locked is being settled, and may yet come back
        IF s.ordering <> 'none' AND EXISTS (
            SELECT FROM @extschema@.leases l WHERE l.subscription_id = s.subscription_id AND l.slot = cur.slot AND l.after < old.after)
        THEN
            RETURN NULL;
        END IF;
        was_alone := old.events = 1 AND old.retries = 0;
        IF old.retries > 0 THEN
            PERFORM @extschema@.abandon_retries(s, topic, old);
            old.retries := 0;
        END IF;
        IF old.held AND was_alone AND old.attempt >= s.max_attempts THEN
            -- so it is the guilty one
            EXECUTE @extschema@.range_query(topic, s, old.upto - old.after, 'min(e."position")', '') INTO first_pos
                USING old.after, old.upto, regex, s.tenant_id, s.filter, s.filter_path;
            IF first_pos IS NOT NULL THEN
                PERFORM @extschema@.bury(s, topic, first_pos, 'crashed', old.attempt,
                    'lease expired: the process that handled it was lost', '[]');
            END IF;
            DELETE FROM @extschema@.leases l WHERE l.token = old.token;
            CONTINUE;
        END IF;
        IF NOT old.held AND NOT old.solo THEN
            -- handed back in order: goes on as a whole
            EXECUTE format('SELECT count(*), max(p) FROM (%s) q', @extschema@.range_query(topic, s, old.upto - old.after, 'e."position" AS p', 'ORDER BY 1 LIMIT $7'))
                INTO matched, last_seen
                USING old.after, old.upto, regex, s.tenant_id, s.filter, s.filter_path, max_events;
        ELSE
            EXECUTE format('SELECT count(*), min(p) FROM (%s) q', @extschema@.range_query(topic, s, old.upto - old.after, 'e."position" AS p', 'ORDER BY 1 LIMIT 1'))
                INTO matched, last_seen
                USING old.after, old.upto, regex, s.tenant_id, s.filter, s.filter_path;
        END IF;
        IF matched = 0 THEN
            DELETE FROM @extschema@.leases l WHERE l.token = old.token;
            CONTINUE;
        END IF;
        new.after := old.after;
        new.upto := last_seen;
        new.events := matched;
        new.attempt := old.attempt + 1;
        IF old.events > matched THEN
            UPDATE @extschema@.leases l
               SET token = gen_random_uuid(), after = last_seen, events = old.events - matched, retries = 0,
                   held = false, solo = old.held OR old.solo
             WHERE l.token = old.token;
        ELSE
            DELETE FROM @extschema@.leases l WHERE l.token = old.token;
        END IF;
        EXIT;
    END LOOP;

    IF matched = 0 THEN
        -- one that has expired but is being settled this moment: it may yet come back
        IF s.ordering <> 'none' AND EXISTS (
            SELECT FROM @extschema@.leases l WHERE l.subscription_id = s.subscription_id AND l.slot = cur.slot)
        THEN
            RETURN NULL;
        END IF;
        new.attempt := 1;
        new.retries := @extschema@.take_retries(s, cur.slot, new.token,
            CASE WHEN cur.cursor >= h THEN room
                 WHEN room > 1 THEN room / 2
                 ELSE (random() < 0.5)::integer END);
        IF new.retries < 0 THEN
            new.retries := 1; -- one that a crash left: it goes alone
        ELSIF new.retries = 0 AND cur.cursor < h AND h - cur.cursor <= room THEN
            -- all that there is fits: the caller reads it, counts it and writes the lease
            new.upto := h;
            new.events := NULL;
            RETURN new;
        ELSIF cur.cursor < h AND room > new.retries THEN
            room := room - new.retries;
            EXECUTE format('SELECT count(*), max(p) FROM (%s) q', @extschema@.range_query(topic, s, h - cur.cursor, 'e."position" AS p', 'ORDER BY 1 LIMIT $7'))
                INTO matched, last_seen
                USING cur.cursor, h, regex, s.tenant_id, s.filter, s.filter_path, room;
            IF matched = room THEN
                new.upto := last_seen;
            ELSIF h - cur.cursor < 10000 THEN
                new.upto := h; -- so few positions are so few rows
            ELSE
                -- looked at all of the range, or at the first 10000 rows of it
                EXECUTE format('SELECT "position" FROM @extschema@.%I WHERE "position" > $1 AND "position" <= $2 ORDER BY "position" OFFSET 9999 LIMIT 1', 'topic_' || topic)
                    INTO last_seen USING cur.cursor, h;
                new.upto := coalesce(last_seen, h);
            END IF;
        END IF;
        new.events := matched;
    END IF;

    RETURN @extschema@.write_lease(new, duration);
END $$;
COMMENT ON FUNCTION @extschema@.take_lease(@extschema@.subscriptions, text, integer, integer, interval, bigint, text) IS
    'Internal: take the next lease of a subscription; its token is NULL when there is nothing to hand out. events NULL: read (after, upto], at most as many rows as asked for, then write_lease() with their number.';
