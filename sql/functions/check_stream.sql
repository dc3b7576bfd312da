CREATE OR REPLACE FUNCTION @extschema@.check_stream(stream text, detail jsonb DEFAULT '{}') RETURNS void LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(octet_length(stream) NOT BETWEEN 1 AND 255 OR stream ~ E'[\\u0001-\\u001f\\u007f]', true) THEN
        PERFORM @extschema@.fail('TL005', 'stream is not 1 to 255 bytes without control characters',
            '{"field": "stream", "limit": 255}'::jsonb || detail, 'Name it category-id, such as order-42.');
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.check_stream(text, jsonb) IS 'Internal: TL005 for what is no name of a stream.';
