CREATE OR REPLACE FUNCTION @extschema@.check_read(max_events integer, direction text DEFAULT 'forward', after bigint DEFAULT 0, upto bigint DEFAULT 0)
    RETURNS void LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(max_events NOT BETWEEN 1 AND 10000, true) THEN
        PERFORM @extschema@.fail('TL005', 'max_events is not 1 to 10000', '{"field": "max_events", "limit": 10000}');
    ELSIF coalesce(direction NOT IN ('forward', 'backward'), true) THEN
        PERFORM @extschema@.fail('TL005', 'direction is not forward or backward', '{"field": "direction"}');
    ELSIF after < 0 THEN
        PERFORM @extschema@.fail('TL005', 'after is negative', '{"field": "after", "limit": 0}');
    ELSIF upto < 0 THEN
        PERFORM @extschema@.fail('TL005', 'upto is negative', '{"field": "upto", "limit": 0}');
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.check_read(integer, text, bigint, bigint) IS
    'Internal: TL005 for an argument of read(), read_stream() and their kin that is out of range.';
