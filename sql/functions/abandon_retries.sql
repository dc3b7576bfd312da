CREATE OR REPLACE FUNCTION @extschema@.abandon_retries(s @extschema@.subscriptions, topic text, lost @extschema@.leases)
    RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r @extschema@.retries;
BEGIN
    IF lost.held AND lost.retries = 1 AND lost.events = 0 THEN
        SELECT * INTO r FROM @extschema@.retries x WHERE x.token = lost.token AND x.attempt >= s.max_attempts;
        IF FOUND THEN
            PERFORM @extschema@.bury(s, topic, r."position", 'crashed', r.attempt,
                'lease expired: the process that handled it was lost', r.errors);
            DELETE FROM @extschema@.retries x WHERE x.subscription_id = r.subscription_id AND x."position" = r."position";
            RETURN;
        END IF;
    END IF;
    UPDATE @extschema@.retries x
       SET token = NULL, solo = x.solo OR lost.held, next_attempt_at = clock_timestamp(),
           attempt = x.attempt - CASE WHEN lost.held THEN 0 ELSE 1 END
     WHERE x.token = lost.token;
END $$;
COMMENT ON FUNCTION @extschema@.abandon_retries(@extschema@.subscriptions, text, @extschema@.leases) IS
    'Internal: the retries of a lost or released lease are due again; after a crash each alone, and dead once it was alone at its last attempt.';
