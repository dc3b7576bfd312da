CREATE OR REPLACE FUNCTION @extschema@.retries_query(topic text, with_subscription boolean) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format('SELECT %s r.token, r.attempt, e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at%s
        FROM @extschema@.retries r JOIN @extschema@.%I e ON e."position" = r."position" WHERE r.token = $1 ORDER BY e."position"',
        CASE WHEN with_subscription THEN 'r.subscription_id,' ELSE '' END,
        CASE WHEN with_subscription THEN ', r.slot::bigint' ELSE '' END, 'topic_' || topic);
END $$;
COMMENT ON FUNCTION @extschema@.retries_query(text, boolean) IS 'Internal: query of the retried events of lease $1.';
