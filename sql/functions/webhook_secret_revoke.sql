CREATE OR REPLACE FUNCTION @extschema@.webhook_secret_revoke(name text, secret_id bigint) RETURNS bigint
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s    @extschema@.subscriptions := @extschema@.webhook_subscription(name);
    left_over bigint;
BEGIN
    DELETE FROM @extschema@.webhook_secrets w
     WHERE w.subscription_id = s.subscription_id AND w.secret_id = webhook_secret_revoke.secret_id;
    IF NOT FOUND THEN
        PERFORM @extschema@.fail('TL002', format('subscription "%s" has no secret %s', s.name, webhook_secret_revoke.secret_id), '{"field": "secret_id"}');
    END IF;
    SELECT count(*) INTO left_over FROM @extschema@.webhook_secrets w
     WHERE w.subscription_id = s.subscription_id AND (w.expires_at IS NULL OR w.expires_at > clock_timestamp());
    RETURN left_over;
END $$;
COMMENT ON FUNCTION @extschema@.webhook_secret_revoke(text, bigint) IS
    'Remove a key of a webhook at once. Returns how many go on signing; with none requests go out unsigned. TL002 when there is none of that number.';
