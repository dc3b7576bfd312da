CREATE OR REPLACE FUNCTION @extschema@.snapshot_delete(
        stream text, below_schema_version integer DEFAULT NULL, topic text DEFAULT 'store', tenant_id text DEFAULT NULL)
    RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    number integer := @extschema@.topic_id_of(snapshot_delete.topic);
    n      bigint;
BEGIN
    PERFORM @extschema@.check_stream(snapshot_delete.stream);
    DELETE FROM @extschema@.snapshots p
     WHERE p.topic_id = number AND (p.schema_version < snapshot_delete.below_schema_version OR snapshot_delete.below_schema_version IS NULL)
       AND CASE WHEN snapshot_delete.stream LIKE '%-*' THEN split_part(p.stream, '-', 1) = left(snapshot_delete.stream, -2)
                ELSE p.stream = snapshot_delete.stream END
       AND (snapshot_delete.tenant_id IS NULL OR EXISTS (SELECT FROM @extschema@.streams s
            WHERE s.topic_id = p.topic_id AND s.stream = p.stream AND s.tenant_id = snapshot_delete.tenant_id));
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
COMMENT ON FUNCTION @extschema@.snapshot_delete(text, integer, text, text) IS
    'Delete the snapshots of a stream, or of a category (order-*); below_schema_version: only those of an older schema version, NULL: all. tenant_id: only that tenant''s. Returns how many. Loads then replay events.';
