CREATE OR REPLACE FUNCTION @extschema@.key_id(stream text, idempotency_key text) RETURNS uuid LANGUAGE plpgsql IMMUTABLE STRICT
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- UUID version 8; a stream has no control characters
    RETURN overlay(overlay(md5(stream || E'\n' || idempotency_key) PLACING '8' FROM 13) PLACING '8' FROM 17)::uuid;
END $$;
COMMENT ON FUNCTION @extschema@.key_id(text, text) IS
    'Event id that append() gives to an event with this idempotency_key in this stream.';
