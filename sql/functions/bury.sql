CREATE OR REPLACE FUNCTION @extschema@.bury(
        s @extschema@.subscriptions, topic text, at bigint, reason text, attempts integer, error text, errors jsonb,
        copy jsonb DEFAULT NULL)
    RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF copy IS NULL THEN
        EXECUTE format('SELECT to_jsonb(e) FROM @extschema@.%I e WHERE e."position" = $1', 'topic_' || topic) INTO copy USING at;
    END IF;
    IF copy IS NULL THEN
        RETURN; -- an unlogged topic that a crash has emptied
    END IF;
    INSERT INTO @extschema@.dead_letters AS d (subscription, subscription_id, topic, "position", event, reason, attempts, error_message, errors)
        VALUES (s.name, s.subscription_id, topic, at, copy, reason, attempts, left(error, 2000), errors)
        ON CONFLICT ON CONSTRAINT dead_letter_once DO UPDATE
           SET state = 'dead', settled_at = NULL, settled_by = NULL, reason = excluded.reason, attempts = excluded.attempts,
               error_message = excluded.error_message, errors = excluded.errors, dead_at = clock_timestamp();
END $$;
COMMENT ON FUNCTION @extschema@.bury(@extschema@.subscriptions, text, bigint, text, integer, text, jsonb, jsonb) IS
    'Internal: write a dead letter with a copy of the event, by default that in the log; one that was redriven is dead again.';
