-- A JSON null in a copy comes out of jsonb_to_record() as NULL.
-- Lateral: a join might read all of the log, since that comes sorted.
CREATE OR REPLACE FUNCTION @extschema@.retries_query(topic text, before text, behind text, copies boolean, tail text DEFAULT '') RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    columns CONSTANT text := before || 'e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at' || behind;
BEGIN
    RETURN 'SELECT ' || columns || format(' FROM @extschema@.retries r CROSS JOIN LATERAL (SELECT * FROM @extschema@.%I x WHERE x."position" = r."position" LIMIT 1) e
            WHERE r.token = $1 AND r.event IS NULL ', 'topic_' || topic)
        || tail
        || CASE WHEN copies THEN ' UNION ALL SELECT ' || replace(columns, 'e.data::jsonb', 'coalesce(e.data, ''null'')') || ' FROM @extschema@.retries r, jsonb_to_record(r.event) AS e("position" bigint, id uuid, type text, source text, stream text,
                version bigint, key text, tenant_id text, data jsonb, metadata jsonb, expires_at timestamptz, created_at timestamptz) WHERE r.token = $1 AND r.event IS NOT NULL' ELSE '' END
        || ' ORDER BY "position"';
END $$;
COMMENT ON FUNCTION @extschema@.retries_query(text, text, text, boolean, text) IS
    'Internal: query of the retried events of lease $1, between columns of retries r before and behind; copies: some of them are kept in retries; tail: a further condition on those of the log.';
