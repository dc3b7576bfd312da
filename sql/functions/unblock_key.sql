CREATE OR REPLACE FUNCTION @extschema@.unblock_key(of_subscription bigint, of_key text) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    due timestamptz := clock_timestamp(); -- the same for all, so that they come in order of position
BEGIN
    UPDATE @extschema@.retries r SET next_attempt_at = due
     WHERE r.subscription_id = of_subscription AND r."position" IN (
        SELECT x."position" FROM @extschema@.retries x
         WHERE x.subscription_id = of_subscription AND x.key = of_key AND x.token IS NULL AND x.next_attempt_at = 'infinity'
         ORDER BY x."position" LIMIT 100);
END $$;
COMMENT ON FUNCTION @extschema@.unblock_key(bigint, text) IS
    'Internal: the next events that wait for a key of a subscription, at most 100, are due.';
