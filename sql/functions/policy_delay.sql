CREATE OR REPLACE FUNCTION @extschema@.policy_delay(s @extschema@.subscriptions, attempt integer) RETURNS interval
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    CASE s.backoff
    WHEN 'fixed' THEN
        RETURN s.retry_delay;
    WHEN 'schedule' THEN
        RETURN s.retry_schedule[least(attempt, cardinality(s.retry_schedule))];
    ELSE
        -- in seconds: an interval of days doubled often enough is out of range
        RETURN least(extract(epoch FROM s.retry_delay)::float8 * power(2::float8, least(attempt - 1, 40)), extract(epoch FROM s.retry_cap)::float8)
            * interval '1 s';
    END CASE;
END $$;
COMMENT ON FUNCTION @extschema@.policy_delay(@extschema@.subscriptions, integer) IS
    'Internal: nominal pause after a failed attempt, without jitter; exponential: retry_delay, doubling, at most retry_cap.';
