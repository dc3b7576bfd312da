CREATE OR REPLACE FUNCTION @extschema@.webhook_resend(name text, event_id uuid) RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s     @extschema@.subscriptions := @extschema@.webhook_subscription(name);
    event jsonb := @extschema@.find_event(s, event_id);
    made  bigint;
BEGIN
    IF event IS NULL THEN
        PERFORM @extschema@.fail('TL002', format('there is no event %s in the log or the dead letters of "%s"', event_id, s.name), '{"field": "event_id"}');
    ELSIF NOT s.active THEN
        PERFORM @extschema@.fail('TL005', format('subscription "%s" is paused', s.name), '{"field": "name"}', 'Resume it first.');
    ELSIF (s.tenant_id IS NOT NULL AND event ->> 'tenant_id' IS DISTINCT FROM s.tenant_id)
        OR NOT @extschema@.matches(event ->> 'type', s.pattern)
        OR (s.filter IS NOT NULL AND NOT coalesce(event -> 'data' @> s.filter, false))
        OR (s.filter_path IS NOT NULL AND NOT coalesce(jsonb_path_match_tz(event -> 'data', s.filter_path, '{}', true), false))
    THEN
        PERFORM @extschema@.fail('TL005', format('subscription "%s" does not want event %s', s.name, event_id), '{"field": "event_id"}');
    END IF;
    INSERT INTO @extschema@.resends (subscription_id, event) VALUES (s.subscription_id, event) RETURNING resend_id INTO made;
    RETURN made;
END $$;
COMMENT ON FUNCTION @extschema@.webhook_resend(text, uuid) IS
    'Send one event to a webhook once more, whatever became of it: one request under the same webhook-id, made by a daemon within a second or two, logged as manual and never repeated by itself. When it is delivered its dead letter counts as resolved. TL002 no such subscription or event, TL005 paused, or the subscription does not want the event.';
