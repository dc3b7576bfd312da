CREATE OR REPLACE FUNCTION @extschema@.park(l @extschema@.leases, at bigint, order_key text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE COST 1000000
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- an earlier one only: what is replayed does not wait for a later event; not `=`: see blocked_among()
    IF coalesce((SELECT b."position" FROM @extschema@.retries b
                  WHERE b.subscription_id = l.subscription_id AND b.key >= order_key AND b.key <= order_key
                  ORDER BY b.key, b."position" LIMIT 1) >= at, true)
    THEN
        RETURN true;
    END IF;
    INSERT INTO @extschema@.retries (subscription_id, "position", slot, attempt, next_attempt_at, error_message, errors, key, replay_id)
        VALUES (l.subscription_id, at, l.slot, l.attempt - 1, 'infinity', '', '[]', order_key, l.replay_id)
        ON CONFLICT (subscription_id, "position") DO NOTHING;
    RETURN false;
END $$;
COMMENT ON FUNCTION @extschema@.park(@extschema@.leases, bigint, text) IS
    'Internal: an event whose key waits for an earlier one waits too, instead of being handed out; true: it does not.';
