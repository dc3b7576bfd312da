CREATE OR REPLACE FUNCTION @extschema@.webhook_recover(
        name text, since timestamptz, until timestamptz DEFAULT NULL, most integer DEFAULT 10000, dry_run boolean DEFAULT false)
    RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s     @extschema@.subscriptions := @extschema@.webhook_subscription(name);
    last  timestamptz := coalesce(until, clock_timestamp());
    wrong record;
    count bigint := 0;
    waiting bigint;
BEGIN
    SELECT c.* INTO wrong FROM (VALUES
        ('since', since IS NOT NULL AND since < last, 'is not before until'),
        ('since', since >= clock_timestamp() - interval '14 days', 'is more than 14 days ago'),
        ('most', most BETWEEN 1 AND 10000, 'is not 1 to 10000')
    ) AS c (field, is_fine, problem) WHERE c.is_fine IS NOT TRUE LIMIT 1;
    IF FOUND THEN
        PERFORM @extschema@.fail('TL005', wrong.field || ' ' || wrong.problem, jsonb_build_object('field', wrong.field));
    END IF;
    count := @extschema@.redrive(subscription => name, since => since, until => last, max_events => most, dry_run => dry_run);
    -- those that wait for another attempt are tried now; what waits for another event goes on waiting
    WITH waits AS (
        SELECT r."position" FROM @extschema@.retries r
         WHERE r.subscription_id = s.subscription_id AND r.token IS NULL AND r.attempt > 0
           AND r.next_attempt_at > clock_timestamp() AND r.next_attempt_at < 'infinity'
           AND r.last_error_at >= since AND r.last_error_at < last
         ORDER BY 1 LIMIT most - count FOR UPDATE SKIP LOCKED
    ), now AS (
        UPDATE @extschema@.retries r SET next_attempt_at = clock_timestamp() FROM waits
         WHERE r.subscription_id = s.subscription_id AND r."position" = waits."position" AND NOT dry_run
    )
    SELECT count(*) INTO waiting FROM waits;
    IF waiting > 0 AND NOT dry_run THEN
        PERFORM @extschema@.wake_listeners();
    END IF;
    RETURN count + waiting;
END $$;
COMMENT ON FUNCTION @extschema@.webhook_recover(text, timestamptz, timestamptz, integer, boolean) IS
    'Try again what failed and was never delivered to a webhook: dead letters of [since, until), as redrive() does, and events that failed then and wait for another attempt, which are tried now. since: at most 14 days ago. until NULL: now. most: at most 10000 a call, oldest first; call again for the rest. dry_run: only count. Returns how many. TL002 no such subscription, TL005 names the argument.';
