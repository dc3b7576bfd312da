CREATE OR REPLACE FUNCTION @extschema@.redacted_errors(errors jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT jsonb_agg(x || '{"error": "redacted"}' ORDER BY n) FROM jsonb_array_elements(errors) WITH ORDINALITY u(x, n)), '[]');
END $$;
COMMENT ON FUNCTION @extschema@.redacted_errors(jsonb) IS 'Internal: a list of failures without their texts, which may quote the event.';
