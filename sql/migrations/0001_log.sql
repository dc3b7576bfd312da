-- The log and everything that remembers who has read how far.
--
-- Lock order of every statement that Trunkline ships: stream rows (sorted) -> in-flight register ->
-- nextval -> dedup ids (in the order given: two batches with the same ids in other orders may
-- deadlock, which PostgreSQL ends with 40P01 and a repeat cures); cursors -> leases -> retries.

CREATE TABLE @extschema@.topics (
    topic_id        integer PRIMARY KEY,
    name            text NOT NULL UNIQUE,
    durability      text NOT NULL,
    rotation        text NOT NULL,
    retention       interval,
    max_event_bytes integer NOT NULL,
    dedup_window    interval,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    reset_at        timestamptz,
    CONSTRAINT topic_id_range CHECK (topic_id BETWEEN 1 AND 4095),
    CONSTRAINT topic_name CHECK (name ~ '^[a-z_][a-z0-9_]{0,39}$'),
    CONSTRAINT topic_durability CHECK (durability IN ('logged', 'unlogged')),
    CONSTRAINT topic_rotation CHECK (rotation IN ('none', 'hour', 'day', 'month')),
    CONSTRAINT topic_retention CHECK (retention > interval '0'),
    CONSTRAINT topic_dedup_window CHECK (dedup_window > interval '0'),
    CONSTRAINT topic_max_event_bytes CHECK (max_event_bytes BETWEEN 1024 AND 268435456)
);
COMMENT ON TABLE @extschema@.topics IS
    'Named logs. Each is a table topic_<name> one can INSERT and COPY into, with a position sequence position_<name> and leaves leaf_<name>_<n> of 2^30 positions. Change by create_topic, set_topic, drop_topic.';
COMMENT ON COLUMN @extschema@.topics.topic_id IS '1 to 4095; part of every generated event id.';
COMMENT ON COLUMN @extschema@.topics.name IS 'Lower-case identifier of at most 40 bytes.';
COMMENT ON COLUMN @extschema@.topics.durability IS 'logged, or unlogged: faster, but empty after a crash of the server.';
COMMENT ON COLUMN @extschema@.topics.rotation IS 'none, hour, day or month (UTC): when maintain() begins a new leaf.';
COMMENT ON COLUMN @extschema@.topics.retention IS 'Leaves whose newest event is older are dropped; NULL: kept for ever.';
COMMENT ON COLUMN @extschema@.topics.max_event_bytes IS 'Limit of pg_column_size(data) of one event.';
COMMENT ON COLUMN @extschema@.topics.dedup_window IS 'How long an id supplied by a caller is remembered; NULL: for ever.';
COMMENT ON COLUMN @extschema@.topics.created_at IS 'When the topic was made.';
COMMENT ON COLUMN @extschema@.topics.reset_at IS 'Unlogged topics: when a crash of the server was last seen to have emptied it; else NULL.';

-- Domains and not CHECK constraints: those of a table are parsed again for every statement, which
-- costs an INSERT of one row a quarter of its speed, and they print the row into the error. Each
-- function call of a check is set up anew for every INSERT, for absent columns too: hence few.
CREATE DOMAIN @extschema@.event_type AS text CONSTRAINT event_type CHECK (
    octet_length(VALUE) <= 255 AND VALUE NOT LIKE ALL ('{"", .%, %., %..%, %*%}'));
CREATE DOMAIN @extschema@.event_name AS text CONSTRAINT event_name CHECK (octet_length(VALUE) <@ int4range(1, 256));
CREATE DOMAIN @extschema@.event_metadata AS jsonb CONSTRAINT event_metadata CHECK (
    jsonb_typeof(VALUE) = 'object' AND pg_column_size(VALUE) <= 65536);
COMMENT ON DOMAIN @extschema@.event_type IS 'Event type: 1 to 255 bytes, segments separated by dots, none empty, no *.';
COMMENT ON DOMAIN @extschema@.event_name IS 'Source, key, tenant or stream: 1 to 255 bytes.';
COMMENT ON DOMAIN @extschema@.event_metadata IS 'A JSON object of at most 65536 bytes (pg_column_size).';

-- Kept free of defaults: those live on the topic tables, so that only a topic can be inserted into.
CREATE TABLE @extschema@.events (
    topic_id   integer NOT NULL,
    "position" bigint NOT NULL,
    id         uuid NOT NULL,
    type       @extschema@.event_type NOT NULL,
    source     @extschema@.event_name,
    stream     @extschema@.event_name,
    version    bigint,
    key        @extschema@.event_name,
    tenant_id  @extschema@.event_name,
    data       jsonb NOT NULL,
    metadata   @extschema@.event_metadata,
    expires_at timestamptz,
    created_at timestamptz NOT NULL,
    -- position first: it alone finds a row of a topic, whichever table of the tree a query names
    CONSTRAINT events_pkey PRIMARY KEY ("position", topic_id)
) PARTITION BY LIST (topic_id);
COMMENT ON TABLE @extschema@.events IS
    'All events of all topics, in order of (topic_id, position). Read-only: publish by publish() or by INSERT or COPY into a topic table. Read no further than horizon(): later positions may still commit behind you.';
COMMENT ON COLUMN @extschema@.events.topic_id IS 'Topic; filled by the topic table.';
COMMENT ON COLUMN @extschema@.events."position" IS 'Place in the topic, ascending, with gaps; filled by the topic table, never by a caller.';
COMMENT ON COLUMN @extschema@.events.id IS 'Event id: the caller''s, or generated: UUID version 7 with topic_id in rand_a and the position in rand_b.';
COMMENT ON COLUMN @extschema@.events.type IS 'What happened: 1 to 255 bytes, segments separated by dots, none empty, no *.';
COMMENT ON COLUMN @extschema@.events.source IS 'Who says so; 1 to 255 bytes or NULL.';
COMMENT ON COLUMN @extschema@.events.stream IS 'Stream of an event-store event; NULL: plain event.';
COMMENT ON COLUMN @extschema@.events.version IS 'Place in the stream, from 1; NULL: plain event.';
COMMENT ON COLUMN @extschema@.events.key IS 'Ordering key; 1 to 255 bytes or NULL: no order asked for.';
COMMENT ON COLUMN @extschema@.events.tenant_id IS 'Tenant; NULL: system.';
COMMENT ON COLUMN @extschema@.events.data IS 'Payload: any JSON value. jsonb: duplicate keys collapse, key order is not kept, \u0000 is refused.';
COMMENT ON COLUMN @extschema@.events.metadata IS 'JSON object of at most 64 KiB (correlation_id, causation_id, user_id, traceparent, ...) or NULL.';
COMMENT ON COLUMN @extschema@.events.expires_at IS 'End of interest in the event; NULL: none.';
COMMENT ON COLUMN @extschema@.events.created_at IS 'Clock of the server when the row was made; never by a caller.';

CREATE TABLE @extschema@.leaves (
    topic_id integer NOT NULL REFERENCES @extschema@.topics ON DELETE CASCADE,
    leaf     bigint NOT NULL,
    CONSTRAINT leaves_pkey PRIMARY KEY (topic_id, leaf)
);
COMMENT ON TABLE @extschema@.leaves IS 'Leaves that exist: leaf n of a topic holds positions [n * 2^30, (n + 1) * 2^30).';
COMMENT ON COLUMN @extschema@.leaves.topic_id IS 'Topic.';
COMMENT ON COLUMN @extschema@.leaves.leaf IS 'Number of the leaf, from 0.';

-- A row here vanishes in a crash exactly when the unlogged leaves do.
CREATE UNLOGGED TABLE @extschema@.unlogged_marks (
    topic_id integer PRIMARY KEY
);
COMMENT ON TABLE @extschema@.unlogged_marks IS 'One row for each unlogged topic; a missing row tells that a crash emptied the topic.';
COMMENT ON COLUMN @extschema@.unlogged_marks.topic_id IS 'Topic.';

CREATE TABLE @extschema@.dedup (
    topic_id   integer NOT NULL,
    id         uuid NOT NULL,
    "position" bigint NOT NULL,
    digest     uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT dedup_pkey PRIMARY KEY (topic_id, id)
);
CREATE INDEX dedup_age ON @extschema@.dedup (topic_id, created_at);
COMMENT ON TABLE @extschema@.dedup IS 'Ids that callers supplied to publish(), for the topic''s dedup_window: the same id and content gives the first position again.';
COMMENT ON COLUMN @extschema@.dedup.topic_id IS 'Topic.';
COMMENT ON COLUMN @extschema@.dedup.id IS 'Event id as supplied.';
COMMENT ON COLUMN @extschema@.dedup."position" IS 'Where the event is.';
COMMENT ON COLUMN @extschema@.dedup.digest IS 'MD5 of the content, to tell a repeat from another event under the same id.';
COMMENT ON COLUMN @extschema@.dedup.created_at IS 'When it was published.';
COMMENT ON INDEX @extschema@.dedup_age IS 'maintain(): forget ids older than the window.';

CREATE TABLE @extschema@.subscriptions (
    subscription_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name            text NOT NULL UNIQUE,
    topic_id        integer NOT NULL REFERENCES @extschema@.topics,
    pattern         text NOT NULL,
    tenant_id       text,
    filter          jsonb,
    filter_path     jsonpath,
    target          text,
    active          boolean NOT NULL DEFAULT true,
    priority        integer NOT NULL,
    ordering        text NOT NULL,
    max_attempts    integer NOT NULL,
    retry_delay     interval NOT NULL,
    retry_cap       interval NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT subscription_name CHECK (octet_length(name) BETWEEN 1 AND 255),
    CONSTRAINT subscription_pattern CHECK (octet_length(pattern) BETWEEN 1 AND 255),
    CONSTRAINT subscription_filter CHECK (jsonb_typeof(filter) = 'object'),
    CONSTRAINT subscription_target CHECK (target ~ '^(https?://|sql:|exec:).' AND octet_length(target) <= 2048),
    CONSTRAINT subscription_priority CHECK (priority BETWEEN 1 AND 10),
    CONSTRAINT subscription_ordering CHECK (ordering IN ('none', 'key', 'total')),
    CONSTRAINT subscription_max_attempts CHECK (max_attempts BETWEEN 1 AND 1000),
    CONSTRAINT subscription_retry CHECK (retry_delay >= interval '0' AND retry_cap >= retry_delay)
);
COMMENT ON TABLE @extschema@.subscriptions IS 'Who wants which events. Change by subscribe() and unsubscribe().';
COMMENT ON COLUMN @extschema@.subscriptions.subscription_id IS 'Number; part of every delivery id.';
COMMENT ON COLUMN @extschema@.subscriptions.name IS 'module/handler; 1 to 255 bytes.';
COMMENT ON COLUMN @extschema@.subscriptions.topic_id IS 'Topic; fixed.';
COMMENT ON COLUMN @extschema@.subscriptions.pattern IS 'Event types: * is one segment, ** at the end the rest, * or ** alone everything.';
COMMENT ON COLUMN @extschema@.subscriptions.tenant_id IS 'Only this tenant''s events; NULL: all.';
COMMENT ON COLUMN @extschema@.subscriptions.filter IS 'Only events whose data contains this (jsonb @>); NULL: all.';
COMMENT ON COLUMN @extschema@.subscriptions.filter_path IS 'Only events whose data satisfies this jsonpath predicate (jsonb @@); NULL: all.';
COMMENT ON COLUMN @extschema@.subscriptions.target IS 'http(s)://..., sql:schema.function, exec:command, run by trunkline serve; NULL: pulled by claim() or a worker.';
COMMENT ON COLUMN @extschema@.subscriptions.active IS 'false: claim() gives nothing.';
COMMENT ON COLUMN @extschema@.subscriptions.priority IS '1 to 10, higher first within a worker.';
COMMENT ON COLUMN @extschema@.subscriptions.ordering IS 'key: events of one key one after the other; total: all of them; none: no order, many leases at once.';
COMMENT ON COLUMN @extschema@.subscriptions.max_attempts IS 'Attempts in total before an event becomes a dead letter.';
COMMENT ON COLUMN @extschema@.subscriptions.retry_delay IS 'Pause before the second attempt; doubles, with jitter of 20 %.';
COMMENT ON COLUMN @extschema@.subscriptions.retry_cap IS 'Longest pause.';
COMMENT ON COLUMN @extschema@.subscriptions.created_at IS 'When it was made.';
COMMENT ON COLUMN @extschema@.subscriptions.updated_at IS 'When it last changed.';

CREATE TABLE @extschema@.cursors (
    subscription_id   bigint NOT NULL REFERENCES @extschema@.subscriptions ON DELETE CASCADE,
    slot              integer NOT NULL,
    cursor            bigint NOT NULL,
    epoch             bigint NOT NULL DEFAULT 0,
    last_triggered_at timestamptz,
    CONSTRAINT cursors_pkey PRIMARY KEY (subscription_id, slot)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
COMMENT ON TABLE @extschema@.cursors IS 'How far each subscription has claimed. Every position up to cursor is settled, leased, in retries or dead.';
COMMENT ON COLUMN @extschema@.cursors.subscription_id IS 'Subscription.';
COMMENT ON COLUMN @extschema@.cursors.slot IS 'Share of the keys, from 0.';
COMMENT ON COLUMN @extschema@.cursors.cursor IS 'Last position handed out or passed over.';
COMMENT ON COLUMN @extschema@.cursors.epoch IS 'Counts leases given; each lease carries its own.';
COMMENT ON COLUMN @extschema@.cursors.last_triggered_at IS 'When events were last handed out.';

CREATE TABLE @extschema@.leases (
    token           uuid PRIMARY KEY,
    subscription_id bigint NOT NULL REFERENCES @extschema@.subscriptions ON DELETE CASCADE,
    slot            integer NOT NULL,
    after           bigint NOT NULL,
    upto            bigint NOT NULL,
    events          integer NOT NULL,
    retries         integer NOT NULL,
    attempt         integer NOT NULL,
    epoch           bigint NOT NULL,
    owner           text NOT NULL,
    held            boolean NOT NULL,
    solo            boolean NOT NULL,
    until           timestamptz NOT NULL,
    CONSTRAINT lease_range CHECK (after <= upto)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX leases_of ON @extschema@.leases (subscription_id, slot);
COMMENT ON TABLE @extschema@.leases IS 'Batches in flight: positions (after, upto] of a subscription that match it, plus the rows of retries with the same token.';
COMMENT ON COLUMN @extschema@.leases.token IS 'Proof of ownership; a takeover gives a new one, so the old owner is fenced.';
COMMENT ON COLUMN @extschema@.leases.subscription_id IS 'Subscription.';
COMMENT ON COLUMN @extschema@.leases.slot IS 'Slot of the cursor it came from.';
COMMENT ON COLUMN @extschema@.leases.after IS 'Range begins behind this position.';
COMMENT ON COLUMN @extschema@.leases.upto IS 'Range ends with this position.';
COMMENT ON COLUMN @extschema@.leases.events IS 'Matching events in the range.';
COMMENT ON COLUMN @extschema@.leases.retries IS 'Rows of retries that it holds.';
COMMENT ON COLUMN @extschema@.leases.attempt IS 'Attempt that this is for the events of the range.';
COMMENT ON COLUMN @extschema@.leases.epoch IS 'Number of the lease in its slot.';
COMMENT ON COLUMN @extschema@.leases.owner IS 'Who holds it, as the claimer calls itself.';
COMMENT ON COLUMN @extschema@.leases.held IS 'false: handed back or left over from a takeover; the next claim takes it.';
COMMENT ON COLUMN @extschema@.leases.solo IS 'true: left by a crash; its events are redelivered one a lease.';
COMMENT ON COLUMN @extschema@.leases.until IS 'When others may take it over.';
COMMENT ON INDEX @extschema@.leases_of IS 'claim(): leases of a slot.';

CREATE TABLE @extschema@.retries (
    subscription_id bigint NOT NULL REFERENCES @extschema@.subscriptions ON DELETE CASCADE,
    "position"      bigint NOT NULL,
    slot            integer NOT NULL,
    attempt         integer NOT NULL,
    next_attempt_at timestamptz NOT NULL,
    token           uuid,
    solo            boolean NOT NULL DEFAULT false,
    error_message   text NOT NULL,
    last_error_at   timestamptz NOT NULL,
    errors          jsonb NOT NULL,
    CONSTRAINT retries_pkey PRIMARY KEY (subscription_id, "position")
) WITH (fillfactor = 70);
CREATE INDEX retries_due ON @extschema@.retries (subscription_id, next_attempt_at) WHERE token IS NULL;
CREATE INDEX retries_leased ON @extschema@.retries (token) WHERE token IS NOT NULL;
COMMENT ON TABLE @extschema@.retries IS 'Events that failed and will be tried again. An event that succeeds at once never has a row.';
COMMENT ON COLUMN @extschema@.retries.subscription_id IS 'Subscription.';
COMMENT ON COLUMN @extschema@.retries."position" IS 'Event.';
COMMENT ON COLUMN @extschema@.retries.slot IS 'Slot it belongs to.';
COMMENT ON COLUMN @extschema@.retries.attempt IS 'Attempts begun so far.';
COMMENT ON COLUMN @extschema@.retries.next_attempt_at IS 'Not before this time.';
COMMENT ON COLUMN @extschema@.retries.token IS 'Lease that is trying it now; NULL: waiting.';
COMMENT ON COLUMN @extschema@.retries.solo IS 'true: was in a lease lost to a crash; tried alone.';
COMMENT ON COLUMN @extschema@.retries.error_message IS 'Last error.';
COMMENT ON COLUMN @extschema@.retries.last_error_at IS 'When it failed last.';
COMMENT ON COLUMN @extschema@.retries.errors IS 'The last 20 failures: [{"attempt", "at", "error"}].';
COMMENT ON INDEX @extschema@.retries_due IS 'claim() and next_due(): what is due.';
COMMENT ON INDEX @extschema@.retries_leased IS 'claim(), ack(): rows of a lease.';

CREATE TABLE @extschema@.dead_letters (
    dead_letter_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription    text NOT NULL,
    subscription_id bigint REFERENCES @extschema@.subscriptions ON DELETE SET NULL,
    topic           text NOT NULL,
    "position"      bigint NOT NULL,
    event           jsonb NOT NULL,
    reason          text NOT NULL,
    attempts        integer NOT NULL,
    error_message   text NOT NULL,
    errors          jsonb NOT NULL,
    dead_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT dead_letter_once UNIQUE (subscription_id, "position"),
    CONSTRAINT dead_letter_reason CHECK (reason IN ('max_attempts', 'rejected', 'crashed'))
);
COMMENT ON TABLE @extschema@.dead_letters IS 'Events that a subscription gave up on, with a copy of the event: nothing here depends on the log.';
COMMENT ON COLUMN @extschema@.dead_letters.dead_letter_id IS 'Number.';
COMMENT ON COLUMN @extschema@.dead_letters.subscription IS 'Name of the subscription at the time.';
COMMENT ON COLUMN @extschema@.dead_letters.subscription_id IS 'Subscription; NULL once that is gone.';
COMMENT ON COLUMN @extschema@.dead_letters.topic IS 'Topic of the event.';
COMMENT ON COLUMN @extschema@.dead_letters."position" IS 'Position of the event.';
COMMENT ON COLUMN @extschema@.dead_letters.event IS 'The event as a JSON object.';
COMMENT ON COLUMN @extschema@.dead_letters.reason IS 'max_attempts, rejected (the handler said never) or crashed (its lease expired every time).';
COMMENT ON COLUMN @extschema@.dead_letters.attempts IS 'Attempts made.';
COMMENT ON COLUMN @extschema@.dead_letters.error_message IS 'Last error.';
COMMENT ON COLUMN @extschema@.dead_letters.errors IS 'The last 20 failures.';
COMMENT ON COLUMN @extschema@.dead_letters.dead_at IS 'When it was given up.';
COMMENT ON CONSTRAINT dead_letter_once ON @extschema@.dead_letters IS 'One dead letter for an event and subscription.';
