CREATE OR REPLACE FUNCTION @extschema@.subscribe(
        name text, pattern text, topic text DEFAULT 'bus', tenant_id text DEFAULT NULL, filter jsonb DEFAULT NULL,
        filter_path jsonpath DEFAULT NULL, target text DEFAULT NULL, priority integer DEFAULT 5,
        ordering text DEFAULT 'key', start_at text DEFAULT 'end', max_attempts integer DEFAULT 10,
        retry_delay interval DEFAULT interval '1 s', retry_cap interval DEFAULT interval '1 h')
    RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    topic_number integer := @extschema@.topic_id_of(subscribe.topic);
    wrong        record;
    old          @extschema@.subscriptions;
    new_id       bigint;
    first_cursor bigint;
BEGIN
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
        ('max_attempts', subscribe.max_attempts BETWEEN 1 AND 1000, 'is not 1 to 1000', 1000),
        ('retry_delay', subscribe.retry_delay >= interval '0' AND subscribe.retry_delay <= interval '1 year', 'is not 0 to 1 year', NULL),
        ('retry_cap', subscribe.retry_cap >= subscribe.retry_delay AND subscribe.retry_cap <= interval '1 year', 'is not retry_delay to 1 year', NULL)
    ) AS c (field, is_fine, problem, most) WHERE c.is_fine IS NOT TRUE LIMIT 1;
    IF FOUND THEN
        PERFORM @extschema@.fail('TL005', wrong.field || ' ' || wrong.problem,
            jsonb_strip_nulls(jsonb_build_object('field', wrong.field, 'limit', wrong.most)));
    END IF;

    SELECT s.* INTO old FROM @extschema@.subscriptions s WHERE s.name = subscribe.name FOR UPDATE;
    IF NOT FOUND THEN
        first_cursor := @extschema@.start_cursor(subscribe.topic, subscribe.start_at);
        INSERT INTO @extschema@.subscriptions AS s (name, topic_id, pattern, tenant_id, filter, filter_path, target, priority,
                ordering, max_attempts, retry_delay, retry_cap)
            VALUES (subscribe.name, topic_number, subscribe.pattern, subscribe.tenant_id, subscribe.filter,
                subscribe.filter_path, subscribe.target, subscribe.priority, subscribe.ordering, subscribe.max_attempts,
                subscribe.retry_delay, subscribe.retry_cap)
            ON CONFLICT (name) DO NOTHING RETURNING s.subscription_id INTO new_id;
        IF FOUND THEN
            INSERT INTO @extschema@.cursors (subscription_id, slot, cursor) VALUES (new_id, 0, first_cursor);
            RETURN new_id;
        END IF;
        -- somebody made it meanwhile
        SELECT s.* INTO STRICT old FROM @extschema@.subscriptions s WHERE s.name = subscribe.name FOR UPDATE;
    END IF;
    IF old.topic_id <> topic_number THEN
        PERFORM @extschema@.fail('TL005', format('subscription "%s" is on another topic', subscribe.name),
            '{"field": "topic"}', 'Unsubscribe first, or use another name.');
    END IF;
    UPDATE @extschema@.subscriptions s
       SET pattern = subscribe.pattern, tenant_id = subscribe.tenant_id, filter = subscribe.filter,
           filter_path = subscribe.filter_path, target = subscribe.target, priority = subscribe.priority,
           ordering = subscribe.ordering, max_attempts = subscribe.max_attempts, retry_delay = subscribe.retry_delay,
           retry_cap = subscribe.retry_cap, updated_at = clock_timestamp()
     WHERE s.subscription_id = old.subscription_id
       AND (s.pattern, s.tenant_id, s.filter, s.filter_path::text, s.target, s.priority, s.ordering, s.max_attempts, s.retry_delay, s.retry_cap)
           IS DISTINCT FROM (subscribe.pattern, subscribe.tenant_id, subscribe.filter, subscribe.filter_path::text,
               subscribe.target, subscribe.priority, subscribe.ordering, subscribe.max_attempts, subscribe.retry_delay, subscribe.retry_cap);
    RETURN old.subscription_id;
END $$;
COMMENT ON FUNCTION @extschema@.subscribe(text, text, text, text, jsonb, jsonpath, text, integer, text, text, integer, interval, interval) IS
    'Create or change a durable subscription; the same call twice is one subscription. name: module/handler. pattern: event types. tenant_id, filter (data @> filter), filter_path (data @@ predicate): further conditions, NULL none. target: http(s)://..., sql:schema.function (takes jsonb), exec:command; NULL: pulled by claim() or a worker. priority: 1 to 10, higher first. ordering: key, none, total. start_at: end, beginning, a position (events after it) or a time; for a new subscription only. max_attempts: in total. retry_delay doubles up to retry_cap, with jitter. Returns its number. TL005 names the field, TL002 unknown topic.';
