CREATE OR REPLACE VIEW @extschema@.webhook_status AS
SELECT s.subscription_id, s.name, s.target, s.active,
       (SELECT count(*) FROM @extschema@.webhook_secrets w
         WHERE w.subscription_id = s.subscription_id AND (w.expires_at IS NULL OR w.expires_at > clock_timestamp())) AS secrets,
       CASE WHEN e.open_until IS NULL THEN 'closed' WHEN e.open_until > clock_timestamp() THEN 'open' ELSE 'half-open' END AS breaker,
       coalesce(e.failures, 0) AS failures, e.failing_since, e.last_failure_at, e.last_error, e.open_until, e.disabled_at, s.pause_reason
  FROM @extschema@.subscriptions s
  LEFT JOIN @extschema@.endpoints e ON e.subscription_id = s.subscription_id
 WHERE s.target ~ '^https?://';
COMMENT ON VIEW @extschema@.webhook_status IS
    'Webhooks: how many keys sign what is sent to them, and how their endpoints do.';
COMMENT ON COLUMN @extschema@.webhook_status.subscription_id IS 'Subscription.';
COMMENT ON COLUMN @extschema@.webhook_status.name IS 'Its name.';
COMMENT ON COLUMN @extschema@.webhook_status.target IS 'URL.';
COMMENT ON COLUMN @extschema@.webhook_status.active IS 'false: paused.';
COMMENT ON COLUMN @extschema@.webhook_status.secrets IS 'Keys that sign; 0: requests go out unsigned.';
COMMENT ON COLUMN @extschema@.webhook_status.breaker IS 'closed; open: nothing is sent until open_until; half-open: one daemon tries one event at a time.';
COMMENT ON COLUMN @extschema@.webhook_status.failures IS 'Failures since the last success.';
COMMENT ON COLUMN @extschema@.webhook_status.failing_since IS 'First of them; NULL: none.';
COMMENT ON COLUMN @extschema@.webhook_status.last_failure_at IS 'Last of them.';
COMMENT ON COLUMN @extschema@.webhook_status.last_error IS 'What the last one was.';
COMMENT ON COLUMN @extschema@.webhook_status.open_until IS 'End of the pause of the breaker; NULL: closed.';
COMMENT ON COLUMN @extschema@.webhook_status.disabled_at IS 'When it was paused because it failed for too long or answered 410; NULL: it was not.';
COMMENT ON COLUMN @extschema@.webhook_status.pause_reason IS 'Why it is paused.';

CREATE OR REPLACE VIEW @extschema@.webhook_secret_status AS
SELECT s.name AS subscription, w.secret_id, w.scheme, w.public_key, w.created_by, w.created_at, w.expires_at,
       CASE WHEN w.expires_at IS NULL THEN 'current' WHEN w.expires_at > clock_timestamp() THEN 'replaced' ELSE 'expired' END AS state
  FROM @extschema@.webhook_secrets w JOIN @extschema@.subscriptions s USING (subscription_id);
COMMENT ON VIEW @extschema@.webhook_secret_status IS 'Keys of webhooks, without the keys.';
COMMENT ON COLUMN @extschema@.webhook_secret_status.subscription IS 'Name of the subscription.';
COMMENT ON COLUMN @extschema@.webhook_secret_status.secret_id IS 'Number of the key.';
COMMENT ON COLUMN @extschema@.webhook_secret_status.scheme IS 'v1: HMAC-SHA256; v1a: Ed25519.';
COMMENT ON COLUMN @extschema@.webhook_secret_status.public_key IS 'What receivers verify an Ed25519 signature with.';
COMMENT ON COLUMN @extschema@.webhook_secret_status.created_by IS 'Role that added it.';
COMMENT ON COLUMN @extschema@.webhook_secret_status.created_at IS 'When.';
COMMENT ON COLUMN @extschema@.webhook_secret_status.expires_at IS 'It signs until then; NULL: until it is replaced.';
COMMENT ON COLUMN @extschema@.webhook_secret_status.state IS 'current; replaced: signs on until expires_at; expired.';

CREATE OR REPLACE VIEW @extschema@.webhook_attempts AS
SELECT a.attempt_id, a.subscription, a.event_id, a.event_type, a."position", a.attempt, a.trigger, a.url, a.outcome, a.http_status,
       a.response, a.error, a.duration, a.started_at, nullif(r.next_attempt_at, 'infinity') AS next_attempt_at
  FROM @extschema@.delivery_attempts a
  LEFT JOIN @extschema@.retries r ON r.subscription_id = a.subscription_id AND r."position" = a."position" AND r.attempt = a.attempt
       AND r.token IS NULL AND a.outcome = 'failed'
UNION ALL
SELECT a.call_id + x.number, a.subscription, x.event_id, x.event_type, x."position", 1, 'scheduled', a.url, 'delivered', a.http_status,
       '', NULL, x.duration_us * interval '1 us', timestamptz '1970-01-01 00:00:00Z' + x.started_us * interval '1 us', NULL
  FROM @extschema@.delivery_runs a,
       unnest(a.numbers, a.event_ids, a.event_types, a.positions, a.durations_us, a.started_us)
           x(number, event_id, event_type, "position", duration_us, started_us);
COMMENT ON VIEW @extschema@.webhook_attempts IS 'Requests to webhooks of the last 30 days, and when each will be tried next. webhook_log() gives the latest of one webhook without a look at all.';
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN SELECT v.attname, col_description(t.attrelid, t.attnum) AS words
               FROM pg_attribute v JOIN pg_attribute t ON t.attname = v.attname
              WHERE v.attrelid = '@extschema@.webhook_attempts'::regclass AND t.attrelid = '@extschema@.delivery_attempts'::regclass AND v.attnum > 0
    LOOP
        EXECUTE format('COMMENT ON COLUMN @extschema@.webhook_attempts.%I IS %L', c.attname, c.words);
    END LOOP;
END $$;
COMMENT ON COLUMN @extschema@.webhook_attempts.next_attempt_at IS 'When the event will be tried again; NULL: it was delivered, given up, tried since, or is on its way.';
