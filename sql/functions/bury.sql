CREATE OR REPLACE FUNCTION @extschema@.bury(
        s @extschema@.subscriptions, topic text, at bigint, reason text, attempts integer, error text, errors jsonb)
    RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('INSERT INTO @extschema@.dead_letters (subscription, subscription_id, topic, "position", event, reason, attempts, error_message, errors)
        SELECT $1, $2, $3, e."position", to_jsonb(e), $4, $5, $6, $7 FROM @extschema@.%I e WHERE e."position" = $8
        ON CONFLICT ON CONSTRAINT dead_letter_once DO NOTHING', 'topic_' || topic)
        USING s.name, s.subscription_id, topic, reason, attempts, left(error, 2000), errors, at;
END $$;
COMMENT ON FUNCTION @extschema@.bury(@extschema@.subscriptions, text, bigint, text, integer, text, jsonb) IS
    'Internal: write a dead letter with a copy of the event.';
