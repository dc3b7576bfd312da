-- Not `=`: a plan made while few wait might look for the key among all positions.
CREATE OR REPLACE FUNCTION @extschema@.park(l @extschema@.leases, at bigint, order_key text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE COST 1000000 AS $$
DECLARE
    first_at bigint;
BEGIN
    first_at := (SELECT b."position" FROM @extschema@.retries b
                  WHERE b.subscription_id = l.subscription_id AND b.key >= order_key AND b.key <= order_key
                  ORDER BY b.key, b."position" LIMIT 1);
    IF first_at < at THEN
        INSERT INTO @extschema@.retries (subscription_id, "position", slot, attempt, next_attempt_at, error_message, errors, key, replay_id)
            VALUES (l.subscription_id, at, l.slot, l.attempt - 1, 'infinity', '', '[]', order_key, l.replay_id)
            ON CONFLICT (subscription_id, "position") DO NOTHING;
        RETURN false;
    END IF;
    -- none, or a later one only: what is replayed does not wait for that
    IF first_at IS NULL AND current_setting('trunkline.mixed_' || l.subscription_id, true) IS DISTINCT FROM 'on' THEN
        PERFORM set_config('trunkline.mixed_' || l.subscription_id, 'on', false); -- for handout_query(), as long as the session lives
    END IF;
    RETURN true;
END $$;
COMMENT ON FUNCTION @extschema@.park(@extschema@.leases, bigint, text) IS
    'Internal: an event whose key waits for an earlier one waits too, instead of being handed out; true: it does not.';
