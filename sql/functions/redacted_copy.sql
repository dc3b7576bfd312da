CREATE OR REPLACE FUNCTION @extschema@.redacted_copy(event jsonb, marker jsonb, keeps_metadata boolean) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN event || jsonb_build_object('data', NULL, 'metadata',
        CASE WHEN keeps_metadata THEN coalesce(nullif(event -> 'metadata', 'null'), '{}') - 'redacted'
             ELSE jsonb_strip_nulls(jsonb_build_object('correlation_id', event #> '{metadata,correlation_id}',
                'causation_id', event #> '{metadata,causation_id}')) END || marker);
END $$;
COMMENT ON FUNCTION @extschema@.redacted_copy(jsonb, jsonb, boolean) IS
    'Internal: an event as JSON object without its payload; NULL stays NULL.';
