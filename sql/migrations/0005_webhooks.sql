-- Secrets, endpoints and attempts of webhooks.

CREATE TABLE @extschema@.webhook_secrets (
    secret_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_id bigint NOT NULL REFERENCES @extschema@.subscriptions ON DELETE CASCADE,
    scheme          text NOT NULL,
    secret          text NOT NULL,
    public_key      text,
    created_by      text NOT NULL DEFAULT current_user,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at      timestamptz,
    CONSTRAINT webhook_secret_form CHECK (CASE scheme
        WHEN 'v1' THEN secret ~ '^whsec_[A-Za-z0-9+/]{32,86}={0,2}$' AND public_key IS NULL
        WHEN 'v1a' THEN secret ~ '^whsk_[A-Za-z0-9+/]{43,86}={0,2}$' AND public_key ~ '^whpk_[A-Za-z0-9+/]{43}=?$'
        ELSE false END)
);
CREATE INDEX webhook_secrets_of ON @extschema@.webhook_secrets (subscription_id, secret_id);
COMMENT ON TABLE @extschema@.webhook_secrets IS 'Keys that sign what is sent to webhooks. The column secret is for the owner and roles with grant_serve() alone; others may add keys and see that they are there.';
COMMENT ON COLUMN @extschema@.webhook_secrets.secret_id IS 'Number of the key.';
COMMENT ON COLUMN @extschema@.webhook_secrets.subscription_id IS 'Subscription.';
COMMENT ON COLUMN @extschema@.webhook_secrets.scheme IS 'v1: HMAC-SHA256 with a shared secret; v1a: Ed25519.';
COMMENT ON COLUMN @extschema@.webhook_secrets.secret IS 'whsec_... or whsk_...';
COMMENT ON COLUMN @extschema@.webhook_secrets.public_key IS 'whpk_... of an Ed25519 key: what receivers verify with.';
COMMENT ON COLUMN @extschema@.webhook_secrets.created_by IS 'Role that added it.';
COMMENT ON COLUMN @extschema@.webhook_secrets.created_at IS 'When.';
COMMENT ON COLUMN @extschema@.webhook_secrets.expires_at IS 'It signs until then; NULL: until it is replaced.';
COMMENT ON INDEX @extschema@.webhook_secrets_of IS 'Keys of a subscription.';

CREATE TABLE @extschema@.endpoints (
    subscription_id bigint PRIMARY KEY REFERENCES @extschema@.subscriptions ON DELETE CASCADE,
    failures        integer NOT NULL DEFAULT 0,
    failing_since   timestamptz,
    last_failure_at timestamptz,
    last_error      text,
    opened          integer NOT NULL DEFAULT 0,
    open_until      timestamptz,
    prober          text,
    probe_until     timestamptz,
    is_announced    boolean NOT NULL DEFAULT false,
    disabled_at     timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE @extschema@.endpoints IS 'Webhooks that fail: no row, no failure. Shared by all daemons.';
COMMENT ON COLUMN @extschema@.endpoints.subscription_id IS 'Subscription.';
COMMENT ON COLUMN @extschema@.endpoints.failures IS 'Failures since the last success.';
COMMENT ON COLUMN @extschema@.endpoints.failing_since IS 'First of them; NULL: none.';
COMMENT ON COLUMN @extschema@.endpoints.last_failure_at IS 'Last of them.';
COMMENT ON COLUMN @extschema@.endpoints.last_error IS 'What the last one was.';
COMMENT ON COLUMN @extschema@.endpoints.opened IS 'How often the circuit breaker has opened since the last success; each pause is twice the one before.';
COMMENT ON COLUMN @extschema@.endpoints.open_until IS 'The breaker is open until then: nothing is claimed; after it one daemon tries one event at a time. NULL: closed.';
COMMENT ON COLUMN @extschema@.endpoints.prober IS 'Daemon that tries.';
COMMENT ON COLUMN @extschema@.endpoints.probe_until IS 'Its turn ends then, unless it asks again.';
COMMENT ON COLUMN @extschema@.endpoints.is_announced IS 'trunkline.endpoint.failing was published since the last success.';
COMMENT ON COLUMN @extschema@.endpoints.disabled_at IS 'When the subscription was paused because of it; NULL: it was not.';

CREATE TABLE @extschema@.delivery_attempts (
    attempt_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_id bigint NOT NULL,
    subscription    text NOT NULL,
    event_id        uuid NOT NULL,
    event_type      text NOT NULL,
    "position"      bigint NOT NULL,
    attempt         integer NOT NULL,
    trigger         text NOT NULL,
    url             text NOT NULL,
    outcome         text NOT NULL,
    http_status     integer,
    response        text,
    error           text,
    duration        interval NOT NULL,
    started_at      timestamptz NOT NULL,
    CONSTRAINT delivery_attempt_trigger CHECK (trigger IN ('scheduled', 'manual')),
    CONSTRAINT delivery_attempt_outcome CHECK (outcome IN ('delivered', 'failed'))
);
CREATE INDEX delivery_attempts_of ON @extschema@.delivery_attempts (subscription_id, event_id);
CREATE INDEX delivery_attempts_age ON @extschema@.delivery_attempts (started_at);
COMMENT ON TABLE @extschema@.delivery_attempts IS 'Log of requests to webhooks, only ever inserted into; maintain() forgets it after 30 days. See the option log of targets.';
COMMENT ON COLUMN @extschema@.delivery_attempts.attempt_id IS 'Number of the entry.';
COMMENT ON COLUMN @extschema@.delivery_attempts.subscription_id IS 'Subscription, which may be gone.';
COMMENT ON COLUMN @extschema@.delivery_attempts.subscription IS 'Its name then.';
COMMENT ON COLUMN @extschema@.delivery_attempts.event_id IS 'Event.';
COMMENT ON COLUMN @extschema@.delivery_attempts.event_type IS 'Its type.';
COMMENT ON COLUMN @extschema@.delivery_attempts."position" IS 'Its position.';
COMMENT ON COLUMN @extschema@.delivery_attempts.attempt IS 'Which attempt of this event, from 1; 0: asked for by resend().';
COMMENT ON COLUMN @extschema@.delivery_attempts.trigger IS 'scheduled, or manual: by resend().';
COMMENT ON COLUMN @extschema@.delivery_attempts.url IS 'Where to, without user, password and query.';
COMMENT ON COLUMN @extschema@.delivery_attempts.outcome IS 'delivered or failed.';
COMMENT ON COLUMN @extschema@.delivery_attempts.http_status IS 'Status of the answer; NULL: there was none.';
COMMENT ON COLUMN @extschema@.delivery_attempts.response IS 'Body of the answer, at most 20000 bytes.';
COMMENT ON COLUMN @extschema@.delivery_attempts.error IS 'What went wrong; NULL: nothing.';
COMMENT ON COLUMN @extschema@.delivery_attempts.duration IS 'From the start of the request to its end.';
COMMENT ON COLUMN @extschema@.delivery_attempts.started_at IS 'Start, by the clock of the daemon.';
COMMENT ON INDEX @extschema@.delivery_attempts_of IS 'webhook attempts, resend(): what became of an event.';
COMMENT ON INDEX @extschema@.delivery_attempts_age IS 'maintain(): forget old ones.';

CREATE TABLE @extschema@.resends (
    resend_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_id bigint NOT NULL REFERENCES @extschema@.subscriptions ON DELETE CASCADE,
    event           jsonb NOT NULL,
    requested_by    text NOT NULL DEFAULT current_user,
    requested_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    owner           text,
    until           timestamptz
);
CREATE INDEX resends_of ON @extschema@.resends (subscription_id);
COMMENT ON TABLE @extschema@.resends IS 'Events that a person asked to send once more, until a daemon has done so.';
COMMENT ON COLUMN @extschema@.resends.resend_id IS 'Number of the request.';
COMMENT ON COLUMN @extschema@.resends.subscription_id IS 'Subscription.';
COMMENT ON COLUMN @extschema@.resends.event IS 'Copy of the event.';
COMMENT ON COLUMN @extschema@.resends.requested_by IS 'Role that asked.';
COMMENT ON COLUMN @extschema@.resends.requested_at IS 'When.';
COMMENT ON COLUMN @extschema@.resends.owner IS 'Daemon that sends it; NULL: none yet.';
COMMENT ON COLUMN @extschema@.resends.until IS 'When others may take it over.';
COMMENT ON INDEX @extschema@.resends_of IS 'unsubscribe(): find them.';
