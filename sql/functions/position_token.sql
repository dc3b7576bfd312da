CREATE OR REPLACE FUNCTION @extschema@.position_token(topic text, "position" bigint) RETURNS text LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce("position" < 0, true) THEN
        PERFORM @extschema@.fail('TL005', 'position is not 0 or more', '{"field": "position", "limit": 0}');
    END IF;
    RETURN format('tl1.%s.%s.%s', topic, "position", @extschema@.topic_mark(topic));
END $$;
COMMENT ON FUNCTION @extschema@.position_token(text, bigint) IS
    'A position as a text to keep outside, which says of what topic and store it is; see parse_position_token(). TL002 unknown topic.';
