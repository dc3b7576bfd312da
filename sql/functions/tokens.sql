CREATE OR REPLACE FUNCTION @extschema@.tokens(tokens double precision, refilled_at timestamptz, rate double precision)
    RETURNS double precision LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- a clock that was set back takes nothing away
    RETURN least(greatest(1, rate), tokens + rate * greatest(extract(epoch FROM clock_timestamp() - refilled_at)::float8, 0));
END $$;
COMMENT ON FUNCTION @extschema@.tokens(double precision, timestamptz, double precision) IS
    'Internal: tokens in a bucket now: as many as a second brings, at least one, is the most it holds.';
