CREATE OR REPLACE FUNCTION @extschema@.webhook_secret_add(
        name text, scheme text DEFAULT 'v1', secret text DEFAULT NULL, public_key text DEFAULT NULL, grace interval DEFAULT NULL)
    RETURNS text LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s     @extschema@.subscriptions := @extschema@.webhook_subscription(name);
    added text := webhook_secret_add.secret;
    live  bigint;
    is_there boolean;
BEGIN
    IF webhook_secret_add.scheme IS NULL OR webhook_secret_add.scheme NOT IN ('v1', 'v1a') THEN
        PERFORM @extschema@.fail('TL005', 'scheme is not v1 or v1a', '{"field": "scheme"}');
    ELSIF grace NOT BETWEEN interval '0' AND interval '30 days' THEN
        PERFORM @extschema@.fail('TL005', 'grace is not 0 to 30 days', '{"field": "grace"}');
    ELSIF webhook_secret_add.scheme = 'v1a' AND (added IS NULL OR webhook_secret_add.public_key IS NULL) THEN
        PERFORM @extschema@.fail('TL005', 'scheme v1a needs secret and public_key', '{"field": "secret"}',
            'PostgreSQL makes no Ed25519 keys: use trunkline webhook secret.');
    END IF;
    IF added IS NULL THEN
        -- 366 random bits of the server's strong source, evened out
        added := 'whsec_' || encode(sha256(decode(replace(concat(gen_random_uuid(), gen_random_uuid(), gen_random_uuid()), '-', ''), 'hex')), 'base64');
    END IF;
    SELECT count(*), bool_or(w.scheme = webhook_secret_add.scheme AND w.expires_at IS NULL) INTO live, is_there
      FROM @extschema@.webhook_secrets w
     WHERE w.subscription_id = s.subscription_id AND (w.expires_at IS NULL OR w.expires_at > clock_timestamp());
    IF is_there AND grace IS NULL THEN
        PERFORM @extschema@.fail('TL001', format('subscription "%s" has a %s secret already', s.name, webhook_secret_add.scheme), '{"field": "name"}',
            'Rotate it: say how long the old one goes on (grace).');
    ELSIF live >= 10 THEN
        PERFORM @extschema@.fail('TL007', format('subscription "%s" has 10 secrets that still sign', s.name), '{"field": "name", "limit": 10}',
            'Revoke one of them or wait.');
    END IF;
    IF grace IS NOT NULL THEN
        UPDATE @extschema@.webhook_secrets w SET expires_at = clock_timestamp() + grace
         WHERE w.subscription_id = s.subscription_id AND w.scheme = webhook_secret_add.scheme AND w.expires_at IS NULL;
    END IF;
    BEGIN
        INSERT INTO @extschema@.webhook_secrets (subscription_id, scheme, secret, public_key)
            VALUES (s.subscription_id, webhook_secret_add.scheme, added, webhook_secret_add.public_key);
    EXCEPTION WHEN check_violation THEN
        -- its message would show the row
        PERFORM @extschema@.fail('TL005', 'secret is not whsec_ (v1) or whsk_ with whpk_ (v1a) and base64 of the right length', '{"field": "secret"}');
    END;
    RETURN added;
END $$;
COMMENT ON FUNCTION @extschema@.webhook_secret_add(text, text, text, text, interval) IS
    'Give a webhook a key and return it: this once, it is never shown again. scheme: v1 (HMAC-SHA256; secret NULL: made here) or v1a (Ed25519: secret whsk_... and public_key whpk_... are made by the program). grace NULL: a first key of its scheme, else TL001. Otherwise it replaces those of its scheme, which go on signing for that long, 0 to 30 days. TL002 no such subscription, TL005 not a webhook or malformed, TL007 at most 10 keys sign at a time.';
