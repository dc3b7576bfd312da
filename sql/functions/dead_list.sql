CREATE OR REPLACE FUNCTION @extschema@.dead_list(
        subscription text DEFAULT NULL, pattern text DEFAULT NULL, reason text DEFAULT NULL, since timestamptz DEFAULT NULL,
        until timestamptz DEFAULT NULL, tenant_id text DEFAULT NULL, state text DEFAULT 'dead', after bigint DEFAULT 0,
        max_events integer DEFAULT 100)
    RETURNS SETOF @extschema@.dead_letter
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT d.dead_letter_id, d.subscription, d.topic, d."position", (d.event ->> 'id')::uuid, d.event ->> 'type', d.event ->> 'key',
            d.event ->> 'tenant_id', d.reason, d.attempts, d.error_message, d.dead_at, d.state, d.settled_at, d.settled_by, d.note
      FROM @extschema@.dead_matching(NULL, dead_list.subscription, pattern, dead_list.reason, since, until, dead_list.tenant_id, dead_list.state, after, max_events) m
      JOIN @extschema@.dead_letters d ON d.dead_letter_id = m
     ORDER BY d.dead_letter_id;
END $$;
COMMENT ON FUNCTION @extschema@.dead_list(text, text, text, timestamptz, timestamptz, text, text, bigint, integer) IS
    'Dead letters without their payload, oldest first. subscription, pattern (event type), reason, since and until (when it was given up), tenant_id, state (NULL: any): only those. after: read on after this number. max_events: 1 to 100000. TL002 unknown subscription, TL005.';
