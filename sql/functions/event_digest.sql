CREATE OR REPLACE FUNCTION @extschema@.event_digest(
        type text, data jsonb, key text, tenant_id text, source text, metadata jsonb, expires_at timestamptz, ttl interval)
    RETURNS uuid LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- times as numbers: their texts depend on the session
    RETURN md5(jsonb_build_array(type, data, key, tenant_id, source, metadata, extract(epoch FROM expires_at))::text
        || coalesce(extract(epoch FROM ttl)::text, ''))::uuid;
END $$;
COMMENT ON FUNCTION @extschema@.event_digest(text, jsonb, text, text, text, jsonb, timestamptz, interval) IS
    'Internal: what two publishes with one id must have in common. When the event falls due is not part of it: a repeat says "in 5 minutes" later.';
