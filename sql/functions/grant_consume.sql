CREATE OR REPLACE FUNCTION @extschema@.grant_consume(grantee text, topic text DEFAULT 'bus') RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@.grant_read(grantee, topic);
    EXECUTE format('GRANT SELECT ON ALL SEQUENCES IN SCHEMA @extschema@ TO %I', grantee);
    EXECUTE format('GRANT SELECT ON @extschema@.topics, @extschema@.leaves, @extschema@.migrations, @extschema@.installed,
        @extschema@.subscription_status, @extschema@.topic_status, @extschema@.streams TO %I', grantee);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON @extschema@.subscriptions, @extschema@.cursors, @extschema@.leases, @extschema@.retries TO %I', grantee);
    EXECUTE format('GRANT SELECT, INSERT ON @extschema@.dead_letters, @extschema@.inbox TO %I', grantee);
    EXECUTE format('GRANT UPDATE ON @extschema@.dead_letters TO %I', grantee); -- one that dies again
    EXECUTE format('GRANT SELECT ON @extschema@.deliveries, @extschema@.replays TO %I', grantee);
    EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.lock_subscription, @extschema@.lock_cursors, @extschema@.has_pending, @extschema@.slot_of,
        @extschema@.dead_list, @extschema@.dead_show, @extschema@.dead_stats, @extschema@.dead_matching TO %I', grantee);
    EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.subscribe, @extschema@.unsubscribe, @extschema@.is_predicate,
        @extschema@.target_function, @extschema@.start_cursor, @extschema@.position_before, @extschema@.claim,
        @extschema@.claim_many, @extschema@.claim_live, @extschema@.prepare_next, @extschema@.claim_ahead, @extschema@.take_lease, @extschema@.write_lease, @extschema@.take_retries, @extschema@.abandon_retries,
        @extschema@.bury, @extschema@.batch_end, @extschema@.range_query, @extschema@.retries_query, @extschema@.check_lease, @extschema@.fenced,
        @extschema@.ack, @extschema@.record_failures, @extschema@.backoff, @extschema@.extend, @extschema@.release,
        @extschema@.next_due, @extschema@.once, @extschema@.outcomes, @extschema@.sync_outcomes,
        @extschema@.process_event, @extschema@.locate, @extschema@.stream_version, @extschema@.stream_exists, @extschema@.stream_info,
        @extschema@.list_streams, @extschema@.category, @extschema@.check_stream, @extschema@.read, @extschema@.horizon, @extschema@.register_horizons, @extschema@.topic_id_of,
        @extschema@.fail, @extschema@.matches, @extschema@.pattern_problem, @extschema@.pattern_regex,
        @extschema@.type_problem, @extschema@.lock_class, @extschema@.channel, @extschema@.bell_arm,
        @extschema@.bell_disarm, @extschema@.sentinel_try, @extschema@.sentinel_release, @extschema@.listener_join,
        @extschema@.listener_leave, @extschema@.wake_listeners,
        @extschema@.live_start, @extschema@.live_read, @extschema@.live_read_stream, @extschema@.check_cursor, @extschema@.check_version, @extschema@.raw_channel TO %I', grantee);
    EXECUTE format('GRANT EXECUTE ON PROCEDURE @extschema@.publish_and_wait TO %I', grantee);
    -- what claim(), ack() and release() are made of
    EXECUTE format('GRANT SELECT ON @extschema@.blocked_keys TO %I', grantee);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON @extschema@.replays, @extschema@.throttles, @extschema@.deliveries TO %I', grantee);
    EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.shared_claim, @extschema@.holes_in, @extschema@.take_any_slot, @extschema@.slot_may_have, @extschema@.take_leftover,
        @extschema@.choose_replay, @extschema@.allowance, @extschema@.tokens, @extschema@.spend_tokens, @extschema@.shrink_lease,
        @extschema@.park, @extschema@.park_blocked, @extschema@.promote_keys, @extschema@.lock_line, @extschema@.order_key,
        @extschema@.handout_query, @extschema@.type_condition, @extschema@.type_operand,
        @extschema@.slot_expression, @extschema@.finish_if_idle, @extschema@.finish_changes, @extschema@.due_within_limits,
        @extschema@.track_claim, @extschema@.track_ack, @extschema@.track_release, @extschema@.condemn, @extschema@.give_up,
        @extschema@.bury_expired, @extschema@.policy_delay TO %I', grantee);
    -- webhooks: keys may be added and ended, never read
    EXECUTE format('GRANT SELECT (secret_id, subscription_id, scheme, public_key, created_by, created_at, expires_at),
        INSERT (subscription_id, scheme, secret, public_key), UPDATE (expires_at), DELETE ON @extschema@.webhook_secrets TO %I', grantee);
    EXECUTE format('GRANT SELECT ON @extschema@.endpoints, @extschema@.delivery_attempts, @extschema@.delivery_runs, @extschema@.webhook_status,
        @extschema@.webhook_secret_status, @extschema@.webhook_attempts TO %I', grantee);
    EXECUTE format('GRANT DELETE ON @extschema@.endpoints TO %I', grantee); -- another target starts anew
    EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.check_target_options, @extschema@.headers_problem, @extschema@.interval_of,
        @extschema@.webhook_subscription, @extschema@.webhook_log, @extschema@.webhook_secret_add, @extschema@.webhook_secret_revoke TO %I', grantee);
    -- projections
    EXECUTE format('GRANT INSERT, UPDATE ON @extschema@.read_models TO %I', grantee);
    EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.read_model_put TO %I', grantee);
END $$;
COMMENT ON FUNCTION @extschema@.grant_consume(text, text) IS
    'Let a role read a topic, subscribe to it, and claim and settle events. Needs the owner of the schema.';
