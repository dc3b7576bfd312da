CREATE OR REPLACE FUNCTION @extschema@.grant_serve(grantee text, topic text DEFAULT 'bus') RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@.grant_consume(grantee, topic);
    PERFORM @extschema@.grant_publish(grantee, 'bus'); -- what operators hear
    EXECUTE format('GRANT SELECT, DELETE ON @extschema@.webhook_secrets TO %I', grantee);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON @extschema@.endpoints, @extschema@.resends TO %I', grantee);
    EXECUTE format('GRANT SELECT, INSERT ON @extschema@.delivery_attempts, @extschema@.delivery_runs TO %I', grantee);
    EXECUTE format('GRANT USAGE ON SEQUENCE @extschema@.delivery_attempts_attempt_id_seq TO %I', grantee);
    EXECUTE format('GRANT UPDATE ON @extschema@.dead_letters TO %I', grantee);
    EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.webhook_list, @extschema@.record_attempts, @extschema@.endpoint_failed,
        @extschema@.operational_event, @extschema@.take_resends, @extschema@.interval_of, @extschema@.leader_try, @extschema@.leader_release TO %I', grantee);
END $$;
COMMENT ON FUNCTION @extschema@.grant_serve(text, text) IS
    'Let a role run trunkline serve for the subscriptions of a topic: all of grant_consume(), the keys of webhooks, and publishing to bus what operators are told. maintain() stays with the owner of the schema. Needs the owner of the schema.';
