CREATE OR REPLACE FUNCTION @extschema@.subscribe(
        name text, pattern text, topic text DEFAULT 'bus', tenant_id text DEFAULT NULL, filter jsonb DEFAULT NULL,
        filter_path jsonpath DEFAULT NULL, target text DEFAULT NULL, priority integer DEFAULT 5,
        ordering text DEFAULT 'key', start_at text DEFAULT 'end', max_attempts integer DEFAULT NULL,
        retry_delay interval DEFAULT NULL, retry_cap interval DEFAULT NULL, backoff text DEFAULT NULL,
        retry_schedule interval[] DEFAULT NULL, on_failure text DEFAULT NULL, slots integer DEFAULT 1,
        mode text DEFAULT 'async', max_in_flight integer DEFAULT NULL, rate_limit double precision DEFAULT NULL,
        timeout interval DEFAULT NULL, track text DEFAULT 'none', target_options jsonb DEFAULT '{}')
    RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    topic_number integer := @extschema@.topic_id_of(subscribe.topic);
    new          @extschema@.subscriptions;
    wrong        record;
    old          @extschema@.subscriptions;
    new_id       bigint;
    first_cursor bigint;
    is_inline    boolean := coalesce(subscribe.mode = 'sync' AND subscribe.target LIKE 'sql:%', false);
BEGIN
    -- what is not said follows from the target and the order
    new.ordering := subscribe.ordering;
    new.backoff := coalesce(subscribe.backoff, CASE
        WHEN subscribe.retry_schedule IS NOT NULL THEN 'schedule'
        WHEN subscribe.target ~ '^https?://' AND coalesce(subscribe.retry_delay, subscribe.retry_cap) IS NULL THEN 'schedule'
        ELSE 'exponential' END);
    new.retry_schedule := coalesce(subscribe.retry_schedule,
        -- that of the Standard Webhooks specification's authors (Svix): 27.6 hours in all
        CASE WHEN new.backoff = 'schedule' AND subscribe.target ~ '^https?://' THEN '{5s,5min,30min,2h,5h,10h,10h}'::interval[] END);
    new.max_attempts := coalesce(subscribe.max_attempts,
        CASE WHEN new.backoff = 'schedule' THEN coalesce(cardinality(new.retry_schedule), 0) + 1 ELSE 10 END);
    new.retry_delay := coalesce(subscribe.retry_delay, least(interval '1 s', subscribe.retry_cap));
    new.retry_cap := coalesce(subscribe.retry_cap, greatest(interval '1 h', subscribe.retry_delay));
    new.on_failure := coalesce(subscribe.on_failure, CASE subscribe.ordering WHEN 'none' THEN 'retry' ELSE 'block_key' END);
    new.slots := subscribe.slots;
    new.mode := subscribe.mode;
    new.max_in_flight := subscribe.max_in_flight;
    new.rate_limit := subscribe.rate_limit;
    new.timeout := subscribe.timeout;
    new.track := subscribe.track;
    new.target_options := subscribe.target_options;

    SELECT c.* INTO wrong FROM (VALUES
        ('name', octet_length(subscribe.name) BETWEEN 1 AND 255, 'is not 1 to 255 bytes', 255),
        ('pattern', @extschema@.pattern_problem(subscribe.pattern) IS NULL, @extschema@.pattern_problem(subscribe.pattern), 255),
        ('tenant_id', coalesce(octet_length(subscribe.tenant_id) BETWEEN 1 AND 255, true), 'is not 1 to 255 bytes', 255),
        ('filter', coalesce(jsonb_typeof(subscribe.filter) = 'object', true), 'is not a JSON object', NULL),
        ('filter_path', @extschema@.is_predicate(subscribe.filter_path), 'is not a predicate without variables, such as $.total > 100', NULL),
        ('target', coalesce(subscribe.target ~ '^(https?://|sql:|exec:).' AND octet_length(subscribe.target) <= 2048, true),
            'is not http://..., https://..., sql:schema.function or exec:command, of at most 2048 bytes', 2048),
        ('target', coalesce(subscribe.target !~ '^sql:' OR @extschema@.target_function(subscribe.target) IS NOT NULL, true),
            'names no function that takes one argument of type jsonb', NULL),
        ('priority', subscribe.priority BETWEEN 1 AND 10, 'is not 1 to 10', 10),
        ('ordering', subscribe.ordering IN ('none', 'key', 'total'), 'is not none, key or total', NULL),
        ('max_attempts', new.max_attempts BETWEEN 1 AND 1000, 'is not 1 to 1000', 1000),
        ('retry_delay', new.retry_delay >= interval '0' AND new.retry_delay <= interval '1 year', 'is not 0 to 1 year', NULL),
        ('retry_cap', new.retry_cap >= new.retry_delay AND new.retry_cap <= interval '1 year', 'is not retry_delay to 1 year', NULL),
        ('backoff', new.backoff IN ('fixed', 'exponential', 'schedule'), 'is not fixed, exponential or schedule', NULL),
        ('retry_schedule', (new.backoff = 'schedule') = (new.retry_schedule IS NOT NULL), 'goes with backoff schedule and with no other', NULL),
        ('retry_schedule', coalesce(cardinality(new.retry_schedule) BETWEEN 1 AND 100 AND array_ndims(new.retry_schedule) = 1
            AND (SELECT bool_and(coalesce(p BETWEEN interval '0' AND interval '1 year', false)) FROM unnest(new.retry_schedule) p), new.retry_schedule IS NULL),
            'is not 1 to 100 pauses of 0 to 1 year', 100),
        ('on_failure', new.on_failure IN ('retry', 'block_key', 'stop'), 'is not retry, block_key or stop', NULL),
        ('on_failure', new.on_failure <> 'block_key' OR new.ordering <> 'none', 'block_key needs ordering key or total', NULL),
        ('slots', new.slots BETWEEN 1 AND 256, 'is not 1 to 256', 256),
        ('slots', new.slots = 1 OR new.ordering = 'key', 'above 1 needs ordering key', NULL),
        ('mode', new.mode IN ('async', 'sync'), 'is not async or sync', NULL),
        ('max_in_flight', coalesce(new.max_in_flight BETWEEN 1 AND 1000000, true), 'is not 1 to 1000000', 1000000),
        ('rate_limit', coalesce(new.rate_limit > 0 AND new.rate_limit <= 1000000, true), 'is not above 0 and up to 1000000', 1000000),
        ('timeout', coalesce(new.timeout BETWEEN interval '1 ms' AND interval '1 day', true), 'is not 1 ms to 1 day', NULL),
        ('track', new.track IN ('none', 'all'), 'is not none or all', NULL),
        ('target_options', coalesce(jsonb_typeof(new.target_options) = 'object', false), 'is not a JSON object', NULL)
    ) AS c (field, is_fine, problem, most) WHERE c.is_fine IS NOT TRUE LIMIT 1;
    IF FOUND THEN
        PERFORM @extschema@.fail('TL005', wrong.field || ' ' || wrong.problem,
            jsonb_strip_nulls(jsonb_build_object('field', wrong.field, 'limit', wrong.most)));
    END IF;

    SELECT s.* INTO old FROM @extschema@.subscriptions s WHERE s.name = subscribe.name FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        first_cursor := @extschema@.start_cursor(subscribe.topic, subscribe.start_at);
        IF is_inline AND subscribe.start_at <> 'end' THEN
            PERFORM @extschema@.fail('TL005', 'start_at is not end: a function in the publisher''s transaction gets what is published from now on',
                '{"field": "start_at"}');
        END IF;
        INSERT INTO @extschema@.subscriptions AS s (name, topic_id, pattern, tenant_id, filter, filter_path, target, priority,
                ordering, max_attempts, retry_delay, retry_cap, backoff, retry_schedule, on_failure, slots, mode, max_in_flight,
                rate_limit, timeout, track, target_options, starts_after)
            VALUES (subscribe.name, topic_number, subscribe.pattern, subscribe.tenant_id, subscribe.filter,
                subscribe.filter_path, subscribe.target, subscribe.priority, new.ordering, new.max_attempts,
                new.retry_delay, new.retry_cap, new.backoff, new.retry_schedule, new.on_failure, new.slots, new.mode,
                new.max_in_flight, new.rate_limit, new.timeout, new.track, new.target_options, first_cursor)
            ON CONFLICT (name) DO NOTHING RETURNING s.subscription_id INTO new_id;
        IF FOUND THEN
            IF is_inline THEN -- publishers wait, so this is where it begins
                first_cursor := @extschema@.horizon(subscribe.topic);
            END IF;
            INSERT INTO @extschema@.cursors (subscription_id, slot, cursor)
                SELECT new_id, n, first_cursor FROM generate_series(0, new.slots - 1) n;
            RETURN new_id;
        END IF;
        -- somebody made it meanwhile
        SELECT s.* INTO STRICT old FROM @extschema@.subscriptions s WHERE s.name = subscribe.name FOR NO KEY UPDATE;
    END IF;
    IF old.topic_id <> topic_number THEN
        PERFORM @extschema@.fail('TL005', format('subscription "%s" is on another topic', subscribe.name),
            '{"field": "topic"}', 'Unsubscribe first, or use another name.');
    END IF;
    IF new.ordering <> 'key' AND (old.slots > 1 OR old.resize_at IS NOT NULL) THEN
        PERFORM @extschema@.fail('TL005', format('ordering of subscription "%s" is key as long as it has several slots', subscribe.name),
            '{"field": "ordering"}', 'Set its slots to 1 first.');
    END IF;
    -- slots are changed by set_slots(), since a change has to wait for what is in flight
    UPDATE @extschema@.subscriptions s
       SET pattern = subscribe.pattern, tenant_id = subscribe.tenant_id, filter = subscribe.filter,
           filter_path = subscribe.filter_path, target = subscribe.target, priority = subscribe.priority,
           ordering = new.ordering, max_attempts = new.max_attempts, retry_delay = new.retry_delay,
           retry_cap = new.retry_cap, backoff = new.backoff, retry_schedule = new.retry_schedule,
           on_failure = new.on_failure, mode = new.mode, max_in_flight = new.max_in_flight, rate_limit = new.rate_limit,
           timeout = new.timeout, track = new.track, target_options = new.target_options,
           registered_by = current_user, updated_at = clock_timestamp()
     WHERE s.subscription_id = old.subscription_id
       AND (s.pattern, s.tenant_id, s.filter, s.filter_path::text, s.target, s.priority, s.ordering, s.max_attempts, s.retry_delay,
            s.retry_cap, s.backoff, s.retry_schedule, s.on_failure, s.mode, s.max_in_flight, s.rate_limit, s.timeout, s.track, s.target_options)
           IS DISTINCT FROM (subscribe.pattern, subscribe.tenant_id, subscribe.filter, subscribe.filter_path::text,
               subscribe.target, subscribe.priority, new.ordering, new.max_attempts, new.retry_delay, new.retry_cap, new.backoff,
               new.retry_schedule, new.on_failure, new.mode, new.max_in_flight, new.rate_limit, new.timeout, new.track, new.target_options);
    IF subscribe.target IS DISTINCT FROM old.target THEN -- what the old one failed says nothing of the new one
        DELETE FROM @extschema@.endpoints e WHERE e.subscription_id = old.subscription_id;
    END IF;
    RETURN old.subscription_id;
END $$;
COMMENT ON FUNCTION @extschema@.subscribe(text, text, text, text, jsonb, jsonpath, text, integer, text, text, integer, interval, interval, text, interval[], text, integer, text, integer, double precision, interval, text, jsonb) IS
    'Create or change a durable subscription; the same call twice is one subscription. name: module/handler. pattern: event types. tenant_id, filter (data @> filter), filter_path (data @@ predicate; a time without a zone is UTC in claims): further conditions, NULL none. target: http(s)://..., sql:schema.function (takes jsonb; called with the rights of the role that subscribes), exec:command; NULL: pulled by claim() or a worker. priority: 1 to 10, higher first. ordering: key, none, total. start_at: end, beginning, a position (events after it) or a time; for a new subscription only. max_attempts: in total, 1 to 1000 (10; with a schedule one more than it has pauses). backoff: exponential (retry_delay, 1 s, to retry_cap, 1 h, with decorrelated jitter), fixed (retry_delay) or schedule (retry_schedule, 1 to 100 pauses); a web hook without any of these has 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h. on_failure: retry, block_key (default where there is an order), stop. slots: shares of the keys claimed side by side, 1 to 256; of an existing subscription changed by set_slots() only. mode: async; or sync: a sql: target is called in every publisher''s transaction with the rights of the owner of the schema, and what it raises refuses the event (TL008; only the owner may subscribe so, start_at is end); for other targets publish_and_wait() waits. max_in_flight, rate_limit (events a second), timeout (of an attempt at a target): NULL no limit of its own. track: all keeps a row of deliveries for each event. target_options: see the guide of the target. Returns its number. TL005 names the field, TL002 unknown topic.';
