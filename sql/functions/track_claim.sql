CREATE OR REPLACE FUNCTION @extschema@.track_claim(s @extschema@.subscriptions, topic text, token uuid) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    l @extschema@.leases;
BEGIN
    SELECT * INTO STRICT l FROM @extschema@.leases x WHERE x.token = track_claim.token;
    EXECUTE 'INSERT INTO @extschema@.deliveries AS d (subscription_id, "position", event_id, state, attempts, started_at) '
        || @extschema@.range_query(topic, s, l.slot, l.has_holes, l.upto - l.after,
            '$7, e."position", e.id, ''processing'', $8, clock_timestamp()', '')
        || format(' UNION ALL SELECT r.subscription_id, r."position", coalesce((r.event ->> ''id'')::uuid, (SELECT e.id FROM @extschema@.%I e WHERE e."position" = r."position")),
                ''processing'', r.attempt, clock_timestamp() FROM @extschema@.retries r WHERE r.token = $9
            ON CONFLICT (subscription_id, "position") DO UPDATE SET state = ''processing'', attempts = excluded.attempts, completed_at = NULL', 'topic_' || topic)
        USING l.after, l.upto, @extschema@.type_operand(s.pattern), s.tenant_id, s.filter, s.filter_path,
            s.subscription_id, l.attempt, l.token;
END $$;
COMMENT ON FUNCTION @extschema@.track_claim(@extschema@.subscriptions, text, uuid) IS
    'Internal: rows of deliveries for the events of a new lease.';
