CREATE OR REPLACE FUNCTION @extschema@.read_model_put(
        aggregate_type text, aggregate_id text, model_data jsonb, version bigint, tenant_id text DEFAULT NULL)
    RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    wrong text := CASE
        WHEN coalesce(octet_length(read_model_put.aggregate_type) NOT BETWEEN 1 AND 255, true) THEN 'aggregate_type'
        WHEN coalesce(octet_length(read_model_put.aggregate_id) NOT BETWEEN 1 AND 255, true) THEN 'aggregate_id'
        WHEN octet_length(read_model_put.tenant_id) NOT BETWEEN 1 AND 255 THEN 'tenant_id' END;
BEGIN
    IF wrong IS NOT NULL THEN
        PERFORM @extschema@.fail('TL005', wrong || ' is not 1 to 255 bytes', jsonb_build_object('field', wrong, 'limit', 255));
    ELSIF read_model_put.model_data IS NULL THEN
        PERFORM @extschema@.fail('TL005', 'model_data is NULL', '{"field": "model_data"}');
    ELSIF coalesce(read_model_put.version < 0, true) THEN
        PERFORM @extschema@.fail('TL005', 'version is not 0 or more', '{"field": "version", "limit": 0}');
    END IF;
    INSERT INTO @extschema@.read_models AS m (aggregate_type, aggregate_id, tenant_id, model_data, version)
        VALUES (read_model_put.aggregate_type, read_model_put.aggregate_id, read_model_put.tenant_id, read_model_put.model_data, read_model_put.version)
        ON CONFLICT (aggregate_type, aggregate_id)
        DO UPDATE SET model_data = excluded.model_data, version = excluded.version, updated_at = clock_timestamp()
         WHERE m.version <= excluded.version AND coalesce(m.tenant_id = excluded.tenant_id, excluded.tenant_id IS NULL);
    IF FOUND THEN
        RETURN true;
    ELSIF read_model_put.tenant_id IS NOT NULL AND NOT EXISTS (SELECT FROM @extschema@.read_model_get(read_model_put.aggregate_type,
            read_model_put.aggregate_id, read_model_put.tenant_id))
    THEN
        PERFORM @extschema@.fail('42501', format('the read model is not of tenant "%s"', read_model_put.tenant_id), '{"field": "tenant_id"}');
    END IF;
    RETURN false;
END $$;
COMMENT ON FUNCTION @extschema@.read_model_put(text, text, jsonb, bigint, text) IS
    'Keep what a projection made of an aggregate at a version. false: the one that is there is of a newer version, and stays. The same version again replaces it. tenant_id: of the model, NULL: system, or whoever''s it is. TL005 names the field; 42501: of another tenant.';
