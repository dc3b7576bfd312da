CREATE OR REPLACE FUNCTION @extschema@.read_model_get(aggregate_type text, aggregate_id text, tenant_id text DEFAULT NULL)
    RETURNS TABLE (model_data jsonb, version bigint, created_at timestamptz, updated_at timestamptz) LANGUAGE plpgsql STABLE ROWS 1
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT m.model_data, m.version, m.created_at, m.updated_at FROM @extschema@.read_models m
         WHERE m.aggregate_type = read_model_get.aggregate_type AND m.aggregate_id = read_model_get.aggregate_id
           AND (read_model_get.tenant_id IS NULL OR m.tenant_id = read_model_get.tenant_id);
END $$;
COMMENT ON FUNCTION @extschema@.read_model_get(text, text, text) IS
    'The read model of an aggregate. No row: there is none, or not of this tenant (NULL: whoever''s).';
