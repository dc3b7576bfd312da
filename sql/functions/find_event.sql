-- An id made here has topic and position inside; the caller's own is found for as long as it is a key of dedup, and by what was tried with it.
CREATE OR REPLACE FUNCTION @extschema@.find_event(s @extschema@.subscriptions, event_id uuid) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    -- along the indexes of the log of attempts, whatever its statistics say
    SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    topic text;
    found jsonb;
    deduplicated bigint;
BEGIN
    SELECT l."position" INTO deduplicated FROM @extschema@.locate(event_id) l JOIN @extschema@.topics t ON t.name = l.topic
     WHERE t.topic_id = s.topic_id;
    SELECT t.name INTO STRICT topic FROM @extschema@.topics t WHERE t.topic_id = s.topic_id;
    EXECUTE format('SELECT to_jsonb(e) FROM @extschema@.%I e WHERE e.id = $1 AND e."position" = ANY ($2) LIMIT 1', 'topic_' || topic)
        INTO found USING event_id, ARRAY(
            SELECT (('x' || right(replace(event_id::text, '-', ''), 16))::bit(64)::bigint & 4611686018427387903) >> 14
            UNION SELECT deduplicated
            UNION SELECT a."position" FROM @extschema@.delivery_attempts a
                   WHERE a.subscription_id = s.subscription_id AND a.event_id = find_event.event_id
            UNION SELECT x."position" FROM @extschema@.delivery_runs a, unnest(a.event_ids, a.positions) x(id, "position")
                   WHERE a.subscription_id = s.subscription_id AND a.last_event >= find_event.event_id AND a.first_event <= find_event.event_id
                     AND x.id = find_event.event_id);
    IF found IS NULL THEN
        SELECT d.event INTO found FROM @extschema@.dead_letters d
         WHERE d.subscription_id = s.subscription_id AND d.event ->> 'id' = event_id::text;
    END IF;
    RETURN found;
END $$;
COMMENT ON FUNCTION @extschema@.find_event(@extschema@.subscriptions, uuid) IS
    'Internal: an event of a subscription''s topic by its id; NULL when it is neither in the log nor a dead letter, or its id came from the publisher and nothing tried it.';
