-- What stands beside the streams of 0008: snapshots, upcasters, links, commands, read models, and what
-- standbys and position tokens need to know.

DROP FUNCTION IF EXISTS @extschema@.read(text, bigint, integer, text, text);

CREATE TYPE @extschema@.stored_event AS (
    "position" bigint, id uuid, type text, source text, stream text, version bigint, key text, tenant_id text,
    data jsonb, metadata jsonb, expires_at timestamptz, created_at timestamptz);
COMMENT ON TYPE @extschema@.stored_event IS 'An event as read() and its kin return it; see the columns of events.';

CREATE TYPE @extschema@.loaded_event AS (
    "position" bigint, id uuid, type text, source text, stream text, version bigint, key text, tenant_id text,
    data jsonb, metadata jsonb, expires_at timestamptz, created_at timestamptz, snapshot_version bigint, state jsonb);
COMMENT ON TYPE @extschema@.loaded_event IS 'What load_stream() returns: a snapshot (snapshot_version, state) or an event (the other columns).';
CREATE TYPE @extschema@.linked_event AS (
    link bigint, linked_at timestamptz, topic text, event_id uuid,
    "position" bigint, id uuid, type text, source text, stream text, version bigint, key text, tenant_id text,
    data jsonb, metadata jsonb, expires_at timestamptz, created_at timestamptz);
COMMENT ON TYPE @extschema@.linked_event IS 'What read_links() returns: a link and its event, whose columns are NULL when it is gone.';

-- Planning a read of a topic with a hundred leaves takes longer than reading a stream.
ALTER TABLE @extschema@.streams ADD after_position bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN @extschema@.streams.after_position IS 'All its events are behind this position of the topic: reads leave older leaves out. 0 in topic store, which has few leaves.';

-- For read_category(): the few streams of which not all events are to be seen. Appends change none of these
-- columns and stay HOT.
CREATE INDEX streams_trimmed ON @extschema@.streams (topic_id, stream)
    WHERE first_version > 1 OR max_count IS NOT NULL OR max_age IS NOT NULL;
COMMENT ON INDEX @extschema@.streams_trimmed IS 'read_category(): streams with events that are not to be seen any more.';

CREATE TABLE @extschema@.horizons (
    topic_id     integer PRIMARY KEY REFERENCES @extschema@.topics ON DELETE CASCADE,
    "position"   bigint NOT NULL,
    published_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE @extschema@.horizons IS
    'Safe horizon of each topic for readers of standbys, which cannot see the register: written by publish_horizons() after the horizon was reached, so it arrives behind all it promises.';
COMMENT ON COLUMN @extschema@.horizons.topic_id IS 'Topic.';
COMMENT ON COLUMN @extschema@.horizons."position" IS 'Every position up to it is visible here or will never be.';
COMMENT ON COLUMN @extschema@.horizons.published_at IS 'When it last moved.';

CREATE TABLE @extschema@.identity (
    is_only    boolean PRIMARY KEY DEFAULT true,
    store_id   uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT identity_is_only CHECK (is_only)
);
INSERT INTO @extschema@.identity (store_id) VALUES (gen_random_uuid());
COMMENT ON TABLE @extschema@.identity IS 'One row: who this store is. A dump keeps it.';
COMMENT ON COLUMN @extschema@.identity.is_only IS 'True: there is one row.';
COMMENT ON COLUMN @extschema@.identity.store_id IS 'Part of every position token, so that one of another store is refused.';
COMMENT ON COLUMN @extschema@.identity.created_at IS 'When the schema got it.';

-- Policies as that of scheduled: who may read a topic, or append to it, may do so with what stands beside it.
CREATE TABLE @extschema@.snapshots (
    topic_id       integer NOT NULL REFERENCES @extschema@.topics ON DELETE CASCADE,
    stream         @extschema@.stream_name NOT NULL,
    schema_version integer NOT NULL,
    version        bigint NOT NULL,
    state          jsonb NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT snapshots_pkey PRIMARY KEY (topic_id, stream, schema_version),
    CONSTRAINT snapshot_version CHECK (version > 0 AND schema_version > 0)
);
COMMENT ON TABLE @extschema@.snapshots IS 'State of streams at a version, one for each schema version of the program that made it. Change by snapshot_save(), snapshot_delete().';
COMMENT ON COLUMN @extschema@.snapshots.topic_id IS 'Topic.';
COMMENT ON COLUMN @extschema@.snapshots.stream IS 'Stream.';
COMMENT ON COLUMN @extschema@.snapshots.schema_version IS 'Form of the state, as the program counts.';
COMMENT ON COLUMN @extschema@.snapshots.version IS 'State after this version of the stream.';
COMMENT ON COLUMN @extschema@.snapshots.state IS 'The state: any JSON value.';
COMMENT ON COLUMN @extschema@.snapshots.created_at IS 'When it was saved.';
ALTER TABLE @extschema@.snapshots ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON @extschema@.snapshots FOR SELECT USING (topic_id = ANY (ARRAY(
    SELECT t.topic_id FROM @extschema@.topics t
     WHERE has_column_privilege('@extschema@.topic_' || t.name, 'data', 'SELECT')
        OR has_column_privilege('@extschema@.topic_' || t.name, 'stream', 'REFERENCES'))));
CREATE POLICY writers ON @extschema@.snapshots USING (topic_id = ANY (ARRAY(
    SELECT t.topic_id FROM @extschema@.topics t WHERE has_column_privilege('@extschema@.topic_' || t.name, 'stream', 'REFERENCES'))));
COMMENT ON POLICY readers ON @extschema@.snapshots IS 'Who may read a topic or append to it sees its snapshots.';
COMMENT ON POLICY writers ON @extschema@.snapshots IS 'Who may append to a topic saves its snapshots.';

-- Functions by name: regprocedure columns stop pg_upgrade.
CREATE TABLE @extschema@.upcasters (
    type           text NOT NULL,
    schema_version integer NOT NULL,
    function       text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT upcasters_pkey PRIMARY KEY (type, schema_version),
    CONSTRAINT upcaster_version CHECK (schema_version BETWEEN 1 AND 2147483646)
);
COMMENT ON TABLE @extschema@.upcasters IS 'Functions that bring the data of old events into a newer form as they are read. Change by upcaster_add(), upcaster_remove().';
COMMENT ON COLUMN @extschema@.upcasters.type IS 'Event type.';
COMMENT ON COLUMN @extschema@.upcasters.schema_version IS 'Version that it takes; it gives the next one.';
COMMENT ON COLUMN @extschema@.upcasters.function IS 'Function (data jsonb, metadata jsonb) returns jsonb, with its schema.';
COMMENT ON COLUMN @extschema@.upcasters.created_at IS 'When it was added.';

CREATE TABLE @extschema@.link_streams (
    name text PRIMARY KEY,
    last bigint NOT NULL,
    CONSTRAINT link_name CHECK (octet_length(name) BETWEEN 1 AND 255)
) WITH (fillfactor = 70);
COMMENT ON TABLE @extschema@.link_streams IS 'Named streams of links, see link().';
COMMENT ON COLUMN @extschema@.link_streams.name IS 'Name.';
COMMENT ON COLUMN @extschema@.link_streams.last IS 'Position of the last link; the lock on this row puts links in order.';
CREATE TABLE @extschema@.links (
    name           text NOT NULL REFERENCES @extschema@.link_streams ON DELETE CASCADE,
    "position"     bigint NOT NULL,
    topic_id       integer NOT NULL,
    event_position bigint NOT NULL,
    event_id       uuid NOT NULL,
    linked_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT links_pkey PRIMARY KEY (name, "position"),
    CONSTRAINT link_once UNIQUE (name, event_id)
);
COMMENT ON TABLE @extschema@.links IS 'Events of named streams: links, no copies.';
COMMENT ON COLUMN @extschema@.links.name IS 'Named stream.';
COMMENT ON COLUMN @extschema@.links."position" IS 'Place in it, from 1, without gaps.';
COMMENT ON COLUMN @extschema@.links.topic_id IS 'Topic of the event.';
COMMENT ON COLUMN @extschema@.links.event_position IS 'Place of the event in its topic.';
COMMENT ON COLUMN @extschema@.links.event_id IS 'Id of the event.';
COMMENT ON COLUMN @extschema@.links.linked_at IS 'When it was linked.';
COMMENT ON CONSTRAINT link_once ON @extschema@.links IS 'One link for an event and named stream.';

CREATE TABLE @extschema@.command_handlers (
    type       text PRIMARY KEY,
    function   text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE @extschema@.command_handlers IS 'Functions that decide commands, by type. Change by command_handler().';
COMMENT ON COLUMN @extschema@.command_handlers.type IS 'Type of command.';
COMMENT ON COLUMN @extschema@.command_handlers.function IS 'Function (command jsonb) returns jsonb, with its schema.';
COMMENT ON COLUMN @extschema@.command_handlers.created_at IS 'When it was last set.';

CREATE TABLE @extschema@.commands (
    id               uuid PRIMARY KEY,
    topic_id         integer NOT NULL REFERENCES @extschema@.topics ON DELETE CASCADE,
    aggregate        @extschema@.stream_name NOT NULL,
    type             text NOT NULL,
    data             jsonb NOT NULL,
    metadata         @extschema@.event_metadata,
    tenant_id        @extschema@.event_name,
    expected_version bigint,
    status           text NOT NULL DEFAULT 'pending',
    attempts         integer NOT NULL DEFAULT 0,
    event_ids        uuid[] NOT NULL DEFAULT '{}',
    error            text,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    processed_at     timestamptz,
    CONSTRAINT command_type CHECK (octet_length(type) BETWEEN 1 AND 255),
    CONSTRAINT command_status CHECK (status IN ('pending', 'processed', 'rejected', 'failed')),
    CONSTRAINT command_end CHECK ((status = 'pending') = (processed_at IS NULL))
);
CREATE INDEX commands_pending ON @extschema@.commands (created_at, id) WHERE status = 'pending';
COMMENT ON TABLE @extschema@.commands IS 'What somebody wants done to an aggregate, and what became of it. Change by command_create(), command_process().';
COMMENT ON COLUMN @extschema@.commands.id IS 'Id, the caller''s or generated.';
COMMENT ON COLUMN @extschema@.commands.topic_id IS 'Topic of the aggregate.';
COMMENT ON COLUMN @extschema@.commands.aggregate IS 'Stream that the events go to.';
COMMENT ON COLUMN @extschema@.commands.type IS 'What is wanted: names the handler.';
COMMENT ON COLUMN @extschema@.commands.data IS 'Arguments: any JSON value.';
COMMENT ON COLUMN @extschema@.commands.metadata IS 'JSON object, copied into the metadata of the events; or NULL.';
COMMENT ON COLUMN @extschema@.commands.tenant_id IS 'Tenant; NULL: system.';
COMMENT ON COLUMN @extschema@.commands.expected_version IS 'The aggregate must be at this version: as in append(); NULL: at any.';
COMMENT ON COLUMN @extschema@.commands.status IS 'pending, processed, rejected (by the domain, or no handler knows the type) or failed.';
COMMENT ON COLUMN @extschema@.commands.attempts IS 'How often a handler was called.';
COMMENT ON COLUMN @extschema@.commands.event_ids IS 'Events that came of it, in order.';
COMMENT ON COLUMN @extschema@.commands.error IS 'Why it was rejected or failed; NULL otherwise.';
COMMENT ON COLUMN @extschema@.commands.created_at IS 'When it was made.';
COMMENT ON COLUMN @extschema@.commands.processed_at IS 'When it ended, one way or another; NULL: pending.';
COMMENT ON INDEX @extschema@.commands_pending IS 'command_process_next(): the oldest first.';
ALTER TABLE @extschema@.commands ENABLE ROW LEVEL SECURITY;
CREATE POLICY appenders ON @extschema@.commands USING (topic_id = ANY (ARRAY(
    SELECT t.topic_id FROM @extschema@.topics t WHERE has_column_privilege('@extschema@.topic_' || t.name, 'stream', 'REFERENCES'))));
COMMENT ON POLICY appenders ON @extschema@.commands IS 'Who may append to a topic may command its aggregates.';

CREATE TABLE @extschema@.read_models (
    aggregate_type text NOT NULL,
    aggregate_id   text NOT NULL,
    tenant_id      text,
    model_data     jsonb NOT NULL,
    version        bigint NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT read_models_pkey PRIMARY KEY (aggregate_type, aggregate_id),
    CONSTRAINT read_model_type CHECK (octet_length(aggregate_type) BETWEEN 1 AND 255),
    CONSTRAINT read_model_id CHECK (octet_length(aggregate_id) BETWEEN 1 AND 255),
    CONSTRAINT read_model_tenant CHECK (octet_length(tenant_id) BETWEEN 1 AND 255)
) WITH (fillfactor = 70);
COMMENT ON TABLE @extschema@.read_models IS 'What projections made of events, one row for an aggregate. Change by read_model_put().';
COMMENT ON COLUMN @extschema@.read_models.aggregate_type IS 'Kind of model.';
COMMENT ON COLUMN @extschema@.read_models.aggregate_id IS 'What it is a model of.';
COMMENT ON COLUMN @extschema@.read_models.tenant_id IS 'Tenant; NULL: system.';
COMMENT ON COLUMN @extschema@.read_models.model_data IS 'The model: any JSON value.';
COMMENT ON COLUMN @extschema@.read_models.version IS 'Version of the aggregate that it shows.';
COMMENT ON COLUMN @extschema@.read_models.created_at IS 'When it was made.';
COMMENT ON COLUMN @extschema@.read_models.updated_at IS 'When it last changed.';
