CREATE OR REPLACE FUNCTION @extschema@.abandon_retries(s @extschema@.subscriptions, topic text, lost @extschema@.leases)
    RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r      @extschema@.retries;
    now_at timestamptz := clock_timestamp();
BEGIN
    IF lost.held AND lost.retries = 1 AND lost.events = 0 THEN
        SELECT * INTO r FROM @extschema@.retries x WHERE x.token = lost.token AND x.attempt >= s.max_attempts;
        IF FOUND THEN
            r.error_message := 'lease expired: the process that handled it was lost';
            IF @extschema@.give_up(s, topic, r, 'crashed') THEN
                RETURN true;
            END IF;
            IF r.key IS NOT NULL THEN
                PERFORM @extschema@.lock_line(s);
                PERFORM @extschema@.promote_keys(s.subscription_id, ARRAY[r.key]);
            END IF;
            RETURN false;
        END IF;
    END IF;
    UPDATE @extschema@.retries x
       SET token = NULL, solo = x.solo OR lost.held, next_attempt_at = now_at,
           attempt = x.attempt - CASE WHEN lost.held THEN 0 ELSE 1 END
     WHERE x.token = lost.token;
    RETURN false;
END $$;
COMMENT ON FUNCTION @extschema@.abandon_retries(@extschema@.subscriptions, text, @extschema@.leases) IS
    'Internal: the retries of a lost or released lease are due again; after a crash each alone, and given up once it was alone at its last attempt. Returns whether that stopped the subscription.';
