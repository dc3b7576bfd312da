-- As position_before(), by version.
CREATE OR REPLACE FUNCTION @extschema@.version_since(topic text, stream text, since timestamptz, lowest bigint, highest bigint, bottom bigint, top bigint)
    RETURNS bigint LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    low   bigint := lowest;   -- all up to here are older
    high  bigint := highest;  -- all after here are not
    probe bigint;
    found record;
BEGIN
    WHILE low < high LOOP
        -- the first look is at the first event: most streams with a max_age are young
        probe := CASE WHEN probe IS NULL THEN low ELSE low + (high - low) / 2 END;
        EXECUTE format('SELECT version, created_at FROM @extschema@.%I WHERE stream = $1 AND version > $2 AND version <= $3 AND "position" > $4 AND "position" <= $5
                ORDER BY version LIMIT 1', 'topic_' || topic)
            INTO found USING stream, probe, high, bottom, top;
        IF found.version IS NULL OR found.created_at >= since - interval '1 s' THEN
            high := probe;
        ELSE
            low := found.version;
        END IF;
    END LOOP;
    RETURN low;
END $$;
COMMENT ON FUNCTION @extschema@.version_since(text, text, timestamptz, bigint, bigint, bigint, bigint) IS
    'Internal: a version before every event of a stream, of (lowest, highest], that was stored at or after a time, in the leaves of (bottom, top], at most a second of events too early.';
