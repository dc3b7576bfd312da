-- The heart of claim(): choose what a claimer gets next and write it down as a lease. Serves, in this
-- order, what a crash or a release left behind, due retries beside fresh events, fresh events.
-- Returns NULL when there is nothing. h: the safe horizon, computed by an earlier statement.
CREATE OR REPLACE FUNCTION @extschema@.take_lease(
        s @extschema@.subscriptions, topic text, only_slot integer, max_events integer, duration interval, h bigint,
        lease_owner text)
    RETURNS @extschema@.leases LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    cur         @extschema@.cursors;
    new         @extschema@.leases;
    replay      @extschema@.replays;
    room        integer := max_events;
    slots       integer;
    resize_at   bigint;
    drain_at    bigint;
    is_limited  boolean;
    has_leases  boolean;
    has_retries boolean;
    has_replays boolean;
    is_blocked  boolean := false;
    matched     integer := 0;
    last_seen   bigint;
    now_at      timestamptz;
BEGIN
    IF s.ordering = 'none' THEN
        SELECT * INTO cur FROM @extschema@.cursors c
         WHERE c.subscription_id = s.subscription_id AND c.slot = only_slot FOR UPDATE;
    ELSE
        -- locked: another claimer is at it, and will hold the one lease of the slot
        SELECT * INTO cur FROM @extschema@.cursors c
         WHERE c.subscription_id = s.subscription_id AND c.slot = only_slot FOR UPDATE SKIP LOCKED;
    END IF;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- A later statement than the lock on the cursor: it sees every lease given, every change made before.
    SELECT x.slots, x.resize_at, x.drain_at,
           EXISTS (SELECT FROM @extschema@.leases l WHERE l.subscription_id = x.subscription_id AND l.slot = cur.slot),
           EXISTS (SELECT FROM @extschema@.retries r WHERE r.subscription_id = x.subscription_id),
           EXISTS (SELECT FROM @extschema@.replays p WHERE p.subscription_id = x.subscription_id AND p.slot = cur.slot)
      INTO slots, resize_at, drain_at, has_leases, has_retries, has_replays
      FROM @extschema@.subscriptions x WHERE x.subscription_id = s.subscription_id AND x.active;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF resize_at IS NOT NULL THEN
        SELECT count(*) INTO slots FROM @extschema@.cursors c WHERE c.subscription_id = s.subscription_id;
    END IF;
    IF slots <> s.slots THEN
        RETURN NULL; -- they have changed since the caller looked, and this is another share of the keys
    END IF;
    h := least(h, resize_at, drain_at);

    new.token := gen_random_uuid();
    new.subscription_id := s.subscription_id;
    new.slot := cur.slot;
    new.epoch := cur.epoch + 1;
    new.owner := lease_owner;
    new.held := true;
    new.solo := false;
    new.attempt := 1;
    new.retries := 0;
    new.has_holes := false;
    new.is_tracked := s.track = 'all';
    new.after := cur.cursor;
    new.upto := cur.cursor;

    IF has_leases AND s.ordering <> 'none' THEN
        IF EXISTS (SELECT FROM @extschema@.leases l WHERE l.subscription_id = s.subscription_id AND l.slot = cur.slot
                      AND l.held AND l.until > clock_timestamp())
        THEN
            RETURN NULL;
        END IF;
    END IF;
    is_limited := s.max_in_flight IS NOT NULL OR s.rate_limit IS NOT NULL;
    IF is_limited THEN
        room := least(room, @extschema@.allowance(s, true));
        IF room < 1 THEN
            RETURN NULL;
        END IF;
    END IF;
    IF has_leases THEN
        new := @extschema@.take_leftover(s, topic, new, room);
        IF new.token IS NULL THEN
            RETURN NULL;
        END IF;
        matched := new.events;
        -- one that was seen before has been settled meanwhile, and what failed of it waits
        has_retries := EXISTS (SELECT FROM @extschema@.retries r WHERE r.subscription_id = s.subscription_id);
    END IF;

    IF matched = 0 THEN
        IF has_replays THEN
            replay := @extschema@.choose_replay(s, cur, h);
            IF replay.replay_id IS NOT NULL THEN
                new.replay_id := replay.replay_id;
                new.after := replay.cursor;
                new.upto := replay.cursor;
                h := replay.upto;
                -- as many as its rate allows for now; refilled by what is taken
                room := least(room, floor(replay.tokens)::integer);
            END IF;
        END IF;
        IF has_retries THEN
            -- whether any of these keys waits is asked when they have been read
            is_blocked := s.ordering = 'key' AND s.on_failure <> 'retry';
            -- order_key() of an event without key
            IF s.ordering = 'total' AND s.on_failure <> 'retry' OR s.ordering <> 'key' AND s.on_failure = 'stop' THEN
                IF EXISTS (SELECT FROM @extschema@.retries r WHERE r.subscription_id = s.subscription_id AND r.key IS NOT NULL) THEN
                    h := new.after; -- all wait for what failed
                END IF;
            END IF;
            now_at := clock_timestamp(); -- not the function itself, of which no index is asked
            -- ordered, so that a plan made while nothing waits uses the index of times; a subquery, so that one plan serves all calls
            IF (SELECT true FROM @extschema@.retries r
                 WHERE r.subscription_id = s.subscription_id AND r.slot = cur.slot AND r.token IS NULL AND r.next_attempt_at <= (SELECT now_at)
                 ORDER BY r.next_attempt_at LIMIT 1)
            THEN
                new.retries := @extschema@.take_retries(s, cur.slot, new.token,
                    CASE WHEN new.after >= h THEN room
                         WHEN room > 1 THEN room / 2
                         ELSE (random() < 0.5)::integer END);
                -- of a replay, or redriven before a reset: an ack up to it would settle all that comes first, so without that
                IF new.retries > 0 AND EXISTS (SELECT FROM @extschema@.retries r WHERE r.token = new.token AND r."position" > new.after) THEN
                    h := new.after;
                END IF;
            END IF;
        END IF;
        IF new.retries < 0 THEN
            new.retries := 1; -- one that a crash left: it goes alone
        ELSIF new.after < h AND room > new.retries THEN
            room := room - new.retries;
            IF has_retries THEN
                new.has_holes := EXISTS (
                    SELECT FROM @extschema@.retries r
                     WHERE r.subscription_id = s.subscription_id AND r."position" > new.after AND r."position" <= h);
            END IF;
            IF new.retries = 0 AND s.rate_limit IS NULL AND replay.rate IS NULL AND (h - new.after <= room
                OR NOT is_limited AND NOT new.has_holes AND s.slots = 1 AND s.pattern IN ('*', '**')
                   AND s.tenant_id IS NULL AND s.filter IS NULL AND s.filter_path IS NULL)
            THEN
                -- all that there is fits, or all of it is wanted: the caller reads, counts and writes the lease
                new.upto := h;
                new.events := NULL;
            ELSE
                EXECUTE format('SELECT count(*), max(p) FROM (%s) q', @extschema@.range_query(topic, s, new.slot, new.has_holes, h - new.after, 'e."position" AS p', 'ORDER BY 1 LIMIT $7'))
                    INTO matched, last_seen
                    USING new.after, h, @extschema@.type_operand(s.pattern), s.tenant_id, s.filter, s.filter_path, room;
                IF matched = room THEN
                    new.upto := last_seen;
                ELSIF h - new.after < 10000 THEN
                    new.upto := h; -- so few positions are so few rows
                ELSE
                    -- looked at all of the range, or at the first 10000 rows of it
                    EXECUTE format('SELECT "position" FROM @extschema@.%I WHERE "position" > $1 AND "position" <= $2 ORDER BY "position" OFFSET 9999 LIMIT 1', 'topic_' || topic)
                        INTO last_seen USING new.after, h;
                    new.upto := coalesce(last_seen, h);
                END IF;
                new.events := matched;
            END IF;
            new.has_holes := new.has_holes OR is_blocked;
            IF new.events IS NULL THEN
                RETURN new;
            END IF;
        END IF;
        new.events := matched;
    END IF;

    IF is_limited OR replay.rate IS NOT NULL THEN
        PERFORM @extschema@.spend_tokens(s, new);
    END IF;
    RETURN @extschema@.write_lease(new, duration);
END $$;
COMMENT ON FUNCTION @extschema@.take_lease(@extschema@.subscriptions, text, integer, integer, interval, bigint, text) IS
    'Internal: take the next lease of a slot; its token is NULL when there is nothing to hand out. events NULL: read (after, upto], at most as many rows as asked for, then write_lease() with their number and the end of what was read.';
