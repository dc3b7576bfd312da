-- The one UPDATE that guard() lets through: it asks for the entry of audit made in this transaction.
CREATE OR REPLACE FUNCTION @extschema@.redact_rows(topic text, topic_id integer, positions bigint[], audit_id bigint, keeps_metadata boolean)
    RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    marker jsonb := (SELECT jsonb_build_object('redacted', jsonb_build_object('reason', a.reason, 'at', a.at, 'by', a.actor, 'audit_id', a.audit_id))
                       FROM @extschema@.audit a WHERE a.audit_id = redact_rows.audit_id);
    texts  jsonb := '{"error": "redacted"}';
    leaf   bigint;
    x      record;
    ids    uuid[] := '{}';
    places bigint[] := '{}';
BEGIN
    PERFORM set_config('trunkline.redacting', audit_id::text, true);
    FOR leaf IN SELECT DISTINCT p >> 30 FROM unnest(positions) p ORDER BY 1 LOOP
        FOR x IN EXECUTE format('UPDATE @extschema@.%I e SET data = ''null'',
                metadata = CASE WHEN $3 THEN coalesce(e.metadata::jsonb, ''{}'') - ''redacted'' ELSE
                    jsonb_strip_nulls(jsonb_build_object(''correlation_id'', e.metadata -> ''correlation_id'', ''causation_id'', e.metadata -> ''causation_id'')) END || $2
             WHERE e."position" = ANY ($1) AND e.topic_id = $4 RETURNING e.id, e."position"', format('leaf_%s_%s', topic, leaf))
            USING positions, marker, keeps_metadata, redact_rows.topic_id
        LOOP
            ids := ids || x.id;
            places := places || x."position";
        END LOOP;
    END LOOP;
    PERFORM set_config('trunkline.redacting', '', true);
    PERFORM @extschema@.redact_copies(topic, redact_rows.topic_id, places, ids, marker, keeps_metadata);
    RETURN cardinality(places);
END $$;
COMMENT ON FUNCTION @extschema@.redact_rows(text, integer, bigint[], bigint, boolean) IS
    'Internal: take the payload from events of a topic, and from all copies of them; how many events that were.';
