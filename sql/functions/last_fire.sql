CREATE OR REPLACE FUNCTION @extschema@.last_fire(cron text, timezone text, first timestamptz, upto timestamptz)
    RETURNS timestamptz LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    low  timestamptz := first; -- fires
    high timestamptz := upto;  -- nothing fires after it
    probe timestamptz := @extschema@.next_fire(cron, timezone, first);
BEGIN
    -- bisection: many slots may have passed
    WHILE probe <= upto LOOP
        low := probe;
        WHILE high > low LOOP
            probe := @extschema@.next_fire(cron, timezone, low + (high - low) / 2);
            EXIT WHEN probe <= upto;
            high := low + (high - low) / 2;
        END LOOP;
        EXIT WHEN high <= low;
    END LOOP;
    RETURN low;
END $$;
COMMENT ON FUNCTION @extschema@.last_fire(text, text, timestamptz, timestamptz) IS
    'Internal: the last time up to another at which a schedule fires, given one of them.';
