-- Not `b.key = e.key`: see park().
CREATE OR REPLACE FUNCTION @extschema@.park_blocked(s @extschema@.subscriptions, topic text, l @extschema@.leases) RETURNS integer
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parked integer;
BEGIN
    EXECUTE 'INSERT INTO @extschema@.retries (subscription_id, "position", slot, attempt, next_attempt_at, solo, error_message, errors, key, replay_id) '
        || @extschema@.range_query(topic, s, l.slot, true, l.upto - l.after,
            '$7, e."position", $8, $9, ''infinity'', $10, '''', ''[]'', e.key, $11',
            ' AND (SELECT b."position" FROM @extschema@.retries b WHERE b.subscription_id = $7 AND b.key >= e.key AND b.key <= e.key ORDER BY b.key, b."position" LIMIT 1) < e."position"')
        || ' ON CONFLICT (subscription_id, "position") DO NOTHING'
        USING l.after, l.upto, @extschema@.type_operand(s.pattern), s.tenant_id, s.filter, s.filter_path,
            s.subscription_id, l.slot, l.attempt, l.held OR l.solo, l.replay_id;
    GET DIAGNOSTICS parked = ROW_COUNT;
    RETURN parked;
END $$;
COMMENT ON FUNCTION @extschema@.park_blocked(@extschema@.subscriptions, text, @extschema@.leases) IS
    'Internal: events of a lost or released lease whose key waits for an earlier event go to retries and wait too; how many.';
