CREATE OR REPLACE FUNCTION @extschema@.position_since(topic text, since timestamptz, lowest bigint, highest bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    next_at timestamptz;
BEGIN
    -- who pages on is there already
    EXECUTE format('SELECT created_at FROM @extschema@.%I WHERE "position" > $1 AND "position" <= $2 ORDER BY "position" LIMIT 1',
        'topic_' || topic) INTO next_at USING lowest, highest;
    IF next_at IS NULL OR next_at >= since - interval '1 s' THEN
        RETURN lowest;
    END IF;
    RETURN @extschema@.position_before(topic, since, lowest, highest);
END $$;
COMMENT ON FUNCTION @extschema@.position_since(text, timestamptz, bigint, bigint) IS
    'Internal: position_before(), at one look for who reads on from a page that began in time.';
