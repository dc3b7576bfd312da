-- Bisection over the primary key instead of an index on time. Times follow positions but for the
-- few microseconds between reserving one and reading the clock, hence the slack. Where the server's
-- clock was set back by more than that, the search may end behind events that it stamped ahead.
CREATE OR REPLACE FUNCTION @extschema@.position_before(topic text, since timestamptz, lowest bigint, highest bigint)
    RETURNS bigint LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    low   bigint := lowest;   -- all up to here are older
    high  bigint := highest;  -- all after here are not
    probe bigint;
    found record;
BEGIN
    WHILE low < high LOOP
        probe := low + (high - low) / 2;
        EXECUTE format('SELECT "position", created_at FROM @extschema@.%I WHERE "position" > $1 AND "position" <= $2 ORDER BY "position" LIMIT 1',
            'topic_' || topic) INTO found USING probe, high;
        IF found."position" IS NULL OR found.created_at >= since - interval '1 s' THEN
            high := probe;
        ELSE
            low := found."position";
        END IF;
    END LOOP;
    RETURN low;
END $$;
COMMENT ON FUNCTION @extschema@.position_before(text, timestamptz, bigint, bigint) IS
    'Internal: a position before every event of (lowest, highest] that was stored at or after a time, at most a second of events too early.';
