CREATE OR REPLACE FUNCTION @extschema@.backoff(s @extschema@.subscriptions, attempt integer, last interval) RETURNS interval
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    low  float8 := extract(epoch FROM s.retry_delay);
    high float8;
BEGIN
    CASE s.backoff
    WHEN 'fixed' THEN
        RETURN s.retry_delay;
    WHEN 'schedule' THEN
        RETURN @extschema@.policy_delay(s, attempt) * (0.8 + 0.4 * random());
    ELSE
        high := 3 * greatest(low, extract(epoch FROM last)::float8);
        RETURN least(low + (high - low) * random(), extract(epoch FROM s.retry_cap)::float8) * interval '1 s';
    END CASE;
END $$;
COMMENT ON FUNCTION @extschema@.backoff(@extschema@.subscriptions, integer, interval) IS
    'Internal: pause after a failed attempt. fixed: retry_delay; schedule: that of the attempt, within 20 % either way; exponential: between retry_delay and three times the last pause (decorrelated jitter), at most retry_cap.';
