CREATE OR REPLACE FUNCTION @extschema@.check_topic(
        name text, durability text, rotation text, retention interval, max_event_bytes integer, dedup_window interval)
    RETURNS void LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(name !~ '^[a-z_][a-z0-9_]{0,39}$', true) THEN
        PERFORM @extschema@.fail('TL005', 'topic name is not a lower-case identifier of at most 40 bytes', '{"field": "name", "limit": 40}');
    ELSIF coalesce(durability NOT IN ('logged', 'unlogged'), true) THEN
        PERFORM @extschema@.fail('TL005', 'durability is not logged or unlogged', '{"field": "durability"}');
    ELSIF coalesce(rotation NOT IN ('none', 'hour', 'day', 'month'), true) THEN
        PERFORM @extschema@.fail('TL005', 'rotation is not none, hour, day or month', '{"field": "rotation"}');
    ELSIF retention NOT BETWEEN interval '1 us' AND interval '1000 years' THEN
        PERFORM @extschema@.fail('TL005', 'retention is not positive and at most 1000 years', '{"field": "retention"}');
    ELSIF dedup_window NOT BETWEEN interval '1 us' AND interval '1000 years' THEN
        PERFORM @extschema@.fail('TL005', 'dedup_window is not positive and at most 1000 years', '{"field": "dedup_window"}');
    ELSIF coalesce(max_event_bytes NOT BETWEEN 1024 AND 268435456, true) THEN
        PERFORM @extschema@.fail('TL005', 'max_event_bytes is not 1024 to 268435456', '{"field": "max_event_bytes", "limit": 268435456}');
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.check_topic(text, text, text, interval, integer, interval) IS
    'Internal: TL005 for an argument of create_topic() or set_topic() that is out of range.';
