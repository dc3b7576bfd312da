CREATE OR REPLACE FUNCTION @extschema@.grant_operate(grantee text, topic text DEFAULT 'bus') RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@.grant_consume(grantee, topic);
    EXECUTE format('GRANT USAGE ON SEQUENCE @extschema@.replay_ids TO %I', grantee);
    EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.pause, @extschema@.resume, @extschema@.reset,
        @extschema@.drain, @extschema@.set_slots, @extschema@.replay, @extschema@.cancel_replay,
        @extschema@.redrive, @extschema@.discard, @extschema@.resolve, @extschema@.dead_chosen, @extschema@.settle_dead,
        @extschema@.raw_channels, @extschema@.raw_channel, @extschema@.emit_channels TO %I', grantee);
    EXECUTE format('GRANT SELECT, INSERT (subscription_id, event) ON @extschema@.resends TO %I', grantee);
    EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.webhook_resend, @extschema@.webhook_recover, @extschema@.find_event TO %I', grantee);
    -- of events that they may read
    EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.redact, @extschema@.redact_at, @extschema@.delete_stream TO %I', grantee);
    EXECUTE format('GRANT SELECT ON @extschema@.audit TO %I', grantee);
END $$;
COMMENT ON FUNCTION @extschema@.grant_operate(text, text) IS
    'Let a role do what grant_consume() allows, and pause, resume, reset, drain, resize and replay subscriptions, redrive, discard and resolve dead letters, send events to webhooks again, redact events, delete streams for ever and read audit. Subscriptions of every topic, but replays and redactions only of events it may read. Needs the owner of the schema.';
