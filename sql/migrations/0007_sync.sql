-- Handlers in the publisher's transaction, and the inbox of consumers.

-- Few subscriptions are of this kind, and every statement that publishes to their topic looks for them.
CREATE INDEX subscriptions_inline ON @extschema@.subscriptions (topic_id)
    WHERE active AND mode = 'sync' AND target LIKE 'sql:%';
COMMENT ON INDEX @extschema@.subscriptions_inline IS 'run_sync(): handlers that run in the publisher''s transaction.';

CREATE TABLE @extschema@.inbox (
    subscription text NOT NULL,
    event_id     uuid NOT NULL,
    handled_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT inbox_pkey PRIMARY KEY (subscription, event_id),
    CONSTRAINT inbox_subscription CHECK (octet_length(subscription) BETWEEN 1 AND 255)
);
CREATE INDEX inbox_age ON @extschema@.inbox (handled_at);
COMMENT ON TABLE @extschema@.inbox IS 'Events that a consumer has handled, as it said by once(): forgotten after trunkline.inbox_window (30 days).';
COMMENT ON COLUMN @extschema@.inbox.subscription IS 'Name of the subscription, or any other name that the consumer gave.';
COMMENT ON COLUMN @extschema@.inbox.event_id IS 'Event.';
COMMENT ON COLUMN @extschema@.inbox.handled_at IS 'When.';
COMMENT ON INDEX @extschema@.inbox_age IS 'maintain(): forget old ones.';

ALTER TABLE @extschema@.subscriptions ADD starts_after bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN @extschema@.subscriptions.starts_after IS 'Position behind which it began: outcomes() does not count earlier events as handled.';
