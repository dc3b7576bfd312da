CREATE OR REPLACE FUNCTION @extschema@.raw_channel(name text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN octet_length(name) <= 63 THEN name ELSE coalesce(substring(name FROM '^[a-z]+[:_]'), '') || '#' || md5(name) END;
END $$;
COMMENT ON FUNCTION @extschema@.raw_channel(text) IS
    'Name of a notification channel of raw_channels(), for LISTEN: PostgreSQL takes 63 bytes, so of a longer name (events:<type>, events:<category>, stream_<id>) it is what is before the colon or underscore and that, then # and the MD5 of the whole name.';
