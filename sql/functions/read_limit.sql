CREATE OR REPLACE FUNCTION @extschema@.read_limit(topic text) RETURNS bigint LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    topic_sequence regclass;
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN @extschema@.horizon(topic);
    END IF;
    topic_sequence := '@extschema@.position_' || topic;
    RETURN coalesce(pg_sequence_last_value(topic_sequence), @extschema@.sequence_denied(topic_sequence));
END $$;
COMMENT ON FUNCTION @extschema@.read_limit(text) IS
    'Internal: position behind which a stream has nothing to read: the last one reserved, so that leaves ahead are not looked at; on a standby the published horizon.';
