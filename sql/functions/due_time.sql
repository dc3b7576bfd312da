CREATE OR REPLACE FUNCTION @extschema@.due_time(
        run_at timestamptz, delay interval, ttl interval DEFAULT NULL, expires_at timestamptz DEFAULT NULL) RETURNS timestamptz
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    moment timestamptz := clock_timestamp();
BEGIN
    IF run_at IS NOT NULL AND delay IS NOT NULL THEN
        PERFORM @extschema@.fail('TL005', 'run_at and delay exclude each other', '{"field": "delay"}');
    ELSIF run_at = 'infinity' OR run_at = '-infinity' OR run_at > moment + interval '10 years' THEN
        PERFORM @extschema@.fail('TL005', 'run_at is not a time within 10 years', '{"field": "run_at"}');
    ELSIF delay NOT BETWEEN interval '0' AND interval '10 years' THEN
        PERFORM @extschema@.fail('TL005', 'delay is not 0 to 10 years', '{"field": "delay"}');
    ELSIF ttl NOT BETWEEN interval '1 us' AND interval '1000 years' THEN
        PERFORM @extschema@.fail('TL005', 'ttl is not positive and at most 1000 years', '{"field": "ttl"}');
    ELSIF ttl IS NOT NULL AND expires_at IS NOT NULL THEN
        PERFORM @extschema@.fail('TL005', 'ttl and expires_at exclude each other', '{"field": "ttl"}');
    END IF;
    RETURN coalesce(run_at, moment + delay, moment);
END $$;
COMMENT ON FUNCTION @extschema@.due_time(timestamptz, interval, interval, timestamptz) IS
    'Internal: when an event with run_at or delay falls due, by the clock of the server; now without them. TL005 for these and for ttl.';
