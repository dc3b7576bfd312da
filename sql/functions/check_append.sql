CREATE OR REPLACE FUNCTION @extschema@.check_append(events integer, expected_version bigint, tenant_id text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(events NOT BETWEEN 1 AND 10000, true) THEN
        PERFORM @extschema@.fail('TL005', 'not 1 to 10000 events', '{"field": "events", "limit": 10000}');
    ELSIF expected_version < -1 THEN
        PERFORM @extschema@.fail('TL005', 'expected_version is not a version, 0 (no stream), -1 (exists) or NULL (any)', '{"field": "expected_version"}');
    ELSIF octet_length(tenant_id) NOT BETWEEN 1 AND 255 THEN
        PERFORM @extschema@.fail('TL005', 'tenant_id is not 1 to 255 bytes', '{"field": "tenant_id", "limit": 255}');
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.check_append(integer, bigint, text) IS 'Internal: TL005 for arguments of an append that are out of range.';
