CREATE OR REPLACE FUNCTION @extschema@.read_limit(topic text) RETURNS bigint LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN @extschema@.horizon(topic);
    END IF;
    RETURN pg_sequence_last_value(('@extschema@.position_' || topic)::regclass);
END $$;
COMMENT ON FUNCTION @extschema@.read_limit(text) IS
    'Internal: position behind which a stream has nothing to read: the last one reserved, so that leaves ahead are not looked at; on a standby the published horizon.';
