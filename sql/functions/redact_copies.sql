CREATE OR REPLACE FUNCTION @extschema@.redact_copies(topic text, topic_id integer, positions bigint[], ids uuid[], marker jsonb, keeps_metadata boolean)
    RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    total bigint := 0;
    n     bigint;
BEGIN
    -- a subscription that stopped at the event says why; before its retries, as ack() locks them
    UPDATE @extschema@.subscriptions s
       SET pause_reason = substring(s.pause_reason FROM '^event at position [0-9]+ [^:]*: ') || 'redacted'
     WHERE s.topic_id = redact_copies.topic_id
       AND CASE WHEN s.pause_reason ~ '^event at position [0-9]{1,18} [^:]*: '
                THEN substring(s.pause_reason FROM '^event at position ([0-9]+)')::bigint = ANY (positions) END;
    -- in the order in which claims lock them; retries of events in the log have no copy, but perhaps an error that quotes it
    PERFORM FROM @extschema@.retries r
      WHERE r.subscription_id IN (SELECT s.subscription_id FROM @extschema@.subscriptions s WHERE s.topic_id = redact_copies.topic_id)
        AND r."position" = ANY (positions) ORDER BY r.subscription_id, r."position" FOR UPDATE;
    UPDATE @extschema@.retries r
       SET event = @extschema@.redacted_copy(r.event, marker, keeps_metadata), error_message = CASE WHEN r.error_message <> '' THEN 'redacted' ELSE '' END,
           errors = @extschema@.redacted_errors(r.errors)
     WHERE r.subscription_id IN (SELECT s.subscription_id FROM @extschema@.subscriptions s WHERE s.topic_id = redact_copies.topic_id)
       AND r."position" = ANY (positions);
    UPDATE @extschema@.dead_letters d
       SET event = @extschema@.redacted_copy(d.event, marker, keeps_metadata), error_message = 'redacted', errors = @extschema@.redacted_errors(d.errors)
     WHERE d.topic = redact_copies.topic AND (d.event ->> 'id')::uuid = ANY (ids);
    GET DIAGNOSTICS n = ROW_COUNT;
    total := total + n;
    UPDATE @extschema@.resends x SET event = @extschema@.redacted_copy(x.event, marker, keeps_metadata)
     WHERE x.subscription_id IN (SELECT s.subscription_id FROM @extschema@.subscriptions s WHERE s.topic_id = redact_copies.topic_id)
       AND (x.event ->> 'id')::uuid = ANY (ids);
    UPDATE @extschema@.deliveries d SET error_message = 'redacted'
     WHERE d.subscription_id IN (SELECT s.subscription_id FROM @extschema@.subscriptions s WHERE s.topic_id = redact_copies.topic_id)
       AND d."position" = ANY (positions) AND d.error_message IS NOT NULL;
    UPDATE @extschema@.delivery_attempts a
       SET response = CASE WHEN a.response IS NOT NULL THEN 'redacted' END, error = CASE WHEN a.error IS NOT NULL THEN 'redacted' END
     WHERE a.event_id = ANY (ids) AND num_nonnulls(a.response, a.error) > 0;
    UPDATE @extschema@.scheduled s
       SET data = 'null', metadata = @extschema@.redacted_copy(jsonb_build_object('metadata', s.metadata), marker, keeps_metadata) -> 'metadata'
     WHERE s.topic_id = redact_copies.topic_id AND s.id = ANY (ids);
    GET DIAGNOSTICS n = ROW_COUNT;
    total := total + n;
    -- a digest lets one try what the payload was
    UPDATE @extschema@.dedup d SET digest = '00000000-0000-0000-0000-000000000000'
     WHERE d.topic_id = redact_copies.topic_id AND d.id = ANY (ids);
    RETURN total;
END $$;
COMMENT ON FUNCTION @extschema@.redact_copies(text, integer, bigint[], uuid[], jsonb, boolean) IS
    'Internal: take the payload from all copies of events outside the log: retries, dead letters, resends, delayed events, answers of webhooks, error messages, digests. How many dead letters and delayed events that were.';
