-- In batches: of a key with a long queue each time the next hundred, all at one time, so that they
-- come in the order of their positions. Not `=`: see park(); one by one, or a plan made while few wait would
-- read all that waits for each of them.
CREATE OR REPLACE FUNCTION @extschema@.promote_keys(subscription_id bigint, keys text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    k    text;
    head record;
    t    timestamptz;
    at   bigint;
BEGIN
    FOREACH k IN ARRAY keys LOOP
        SELECT r.token, r.next_attempt_at INTO head FROM @extschema@.retries r
         WHERE r.subscription_id = promote_keys.subscription_id AND r.key >= k AND r.key <= k
         ORDER BY r.key, r."position" LIMIT 1;
        IF FOUND AND head.token IS NULL AND head.next_attempt_at = 'infinity' THEN
            t := clock_timestamp();
            FOREACH at IN ARRAY ARRAY(SELECT x."position" FROM @extschema@.retries x
                WHERE x.subscription_id = promote_keys.subscription_id AND x.key >= k AND x.key <= k AND x.token IS NULL
                ORDER BY x.key, x."position" LIMIT 100)
            LOOP
                UPDATE @extschema@.retries r SET next_attempt_at = t
                 WHERE r.subscription_id = promote_keys.subscription_id AND r."position" = at AND NOT isfinite(r.next_attempt_at);
            END LOOP;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION @extschema@.promote_keys(bigint, text[]) IS
    'Internal: the first event of each of these keys was settled: the next ones that wait for it are due.';
