CREATE OR REPLACE FUNCTION @extschema@.redact_commands(topic_id integer, stream text, ids uuid[], audit_id bigint, keeps_metadata boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    marker jsonb := (SELECT jsonb_build_object('redacted', jsonb_build_object('reason', a.reason, 'at', a.at, 'by', a.actor, 'audit_id', a.audit_id))
                       FROM @extschema@.audit a WHERE a.audit_id = redact_commands.audit_id);
BEGIN
    UPDATE @extschema@.commands c
       SET data = 'null', metadata = @extschema@.redacted_copy(jsonb_build_object('metadata', c.metadata), marker, keeps_metadata) -> 'metadata',
           error = CASE WHEN c.status = 'pending' THEN 'the aggregate was deleted for ever' WHEN c.error IS NOT NULL THEN 'redacted' END,
           status = CASE c.status WHEN 'pending' THEN 'rejected' ELSE c.status END, processed_at = coalesce(c.processed_at, clock_timestamp())
     WHERE c.topic_id = redact_commands.topic_id AND c.aggregate = redact_commands.stream AND (ids IS NULL OR c.event_ids && ids);
END $$;
COMMENT ON FUNCTION @extschema@.redact_commands(integer, text, uuid[], bigint, boolean) IS
    'Internal: take the arguments from the commands that these events of a stream came of; ids NULL: from all commands of the stream, those that wait are rejected.';
