-- In batches: of a key with a long queue each time the next hundred, all at one time, so that they
-- come in the order of their positions.
CREATE OR REPLACE FUNCTION @extschema@.promote_keys(subscription_id bigint, keys text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    k    text;
    head record;
BEGIN
    FOREACH k IN ARRAY keys LOOP
        SELECT r.token, r.next_attempt_at INTO head FROM @extschema@.retries r
         WHERE r.subscription_id = promote_keys.subscription_id AND r.key = k
         ORDER BY r."position" LIMIT 1;
        IF FOUND AND head.token IS NULL AND head.next_attempt_at = 'infinity' THEN
            UPDATE @extschema@.retries r SET next_attempt_at = now.t
              FROM (SELECT clock_timestamp() AS t) now
             WHERE r.subscription_id = promote_keys.subscription_id AND r.next_attempt_at = 'infinity' AND r."position" IN (
                SELECT x."position" FROM @extschema@.retries x
                 WHERE x.subscription_id = promote_keys.subscription_id AND x.key = k AND x.token IS NULL
                 ORDER BY x."position" LIMIT 100);
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION @extschema@.promote_keys(bigint, text[]) IS
    'Internal: the first event of each of these keys was settled: the next ones that wait for it are due.';
