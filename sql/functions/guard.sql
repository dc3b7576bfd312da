CREATE OR REPLACE FUNCTION @extschema@.guard() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- redact_rows(): an UPDATE of a leaf, with an entry of audit made in this transaction
    IF TG_OP = 'UPDATE' AND EXISTS (
        SELECT FROM @extschema@.audit a
         WHERE a.audit_id = nullif(current_setting('trunkline.redacting', true), '')::bigint AND a.at >= now() AND a.action IN ('redact', 'delete_stream')
           AND starts_with(TG_TABLE_NAME, 'leaf_' || (a.detail ->> 'topic') || '_'))
    THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
        MESSAGE = format('%s on %s is refused: %s', TG_OP, TG_TABLE_NAME,
            CASE TG_TABLE_NAME WHEN 'audit' THEN 'what was done is not undone' ELSE 'events are immutable' END),
        DETAIL = jsonb_build_object('table', TG_TABLE_NAME, 'operation', TG_OP)::text,
        HINT = CASE TG_TABLE_NAME WHEN 'audit' THEN '' ELSE
            'Retention drops whole leaves; publish a correcting event instead of changing one; redact() removes a payload.' END;
END $$;
COMMENT ON FUNCTION @extschema@.guard() IS
    'Internal: trigger that refuses UPDATE, DELETE and TRUNCATE of events, topics, leaves and audit (42501), also to their owner. Only the UPDATE of a redaction that audit has an entry for passes.';
