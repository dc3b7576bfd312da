-- Streams: the event store on the log.
--
-- Lock order: stream rows (sorted by topic_id, stream) -> dedup ids (sorted) -> in-flight register -> nextval.
-- publish() takes dedup ids last; the register is shared by all, so that makes no circle.

DROP FUNCTION IF EXISTS @extschema@.create_topic(text, text, text, interval, integer, interval);

ALTER TABLE @extschema@.topics
    ADD streams boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT topic_streams CHECK (durability = 'logged' OR NOT streams);
COMMENT ON COLUMN @extschema@.topics.streams IS 'true: append() works here, and leaves have the indexes of streams; fixed.';
UPDATE @extschema@.topics SET streams = true WHERE name = 'store';

-- Domains and no CHECKs, for those of a table are parsed for every UPDATE: see 0001.
CREATE DOMAIN @extschema@.stream_name AS text COLLATE "C" CONSTRAINT stream_name CHECK (
    octet_length(VALUE) >= 1 AND octet_length(VALUE) <= 255 AND VALUE !~ E'[\\u0001-\\u001f\\u007f]');
CREATE DOMAIN @extschema@.stream_state AS text CONSTRAINT stream_state CHECK (VALUE IN ('open', 'deleted', 'tombstone'));
COMMENT ON DOMAIN @extschema@.stream_name IS 'Stream: 1 to 255 bytes, no control characters; ordered by bytes.';
COMMENT ON DOMAIN @extschema@.stream_state IS 'open, deleted (the next append opens it again) or tombstone (closed for ever).';

-- The lock on a row of this table is the optimistic concurrency of its stream, and what makes
-- (stream, version) unique across leaves. No index but the key: every append is a HOT update.
CREATE TABLE @extschema@.streams (
    topic_id      integer NOT NULL,
    stream        @extschema@.stream_name NOT NULL,
    version       bigint NOT NULL,
    tenant_id     @extschema@.event_name,
    state         @extschema@.stream_state NOT NULL DEFAULT 'open',
    first_version bigint NOT NULL DEFAULT 1,
    max_count     bigint,
    max_age       interval,
    metadata      @extschema@.event_metadata,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT streams_pkey PRIMARY KEY (topic_id, stream)
) WITH (fillfactor = 70);
COMMENT ON TABLE @extschema@.streams IS 'Streams of topics that have them, one row a stream. Change by append(), set_stream(), delete_stream().';
COMMENT ON COLUMN @extschema@.streams.topic_id IS 'Topic.';
COMMENT ON COLUMN @extschema@.streams.stream IS 'Name: category-id, or any other.';
COMMENT ON COLUMN @extschema@.streams.version IS 'Version of its last event; 0: none yet.';
COMMENT ON COLUMN @extschema@.streams.tenant_id IS 'Tenant of the stream and all its events; NULL: system.';
COMMENT ON COLUMN @extschema@.streams.state IS 'open, deleted or tombstone.';
COMMENT ON COLUMN @extschema@.streams.first_version IS 'Reads of the stream begin here: behind what was deleted.';
COMMENT ON COLUMN @extschema@.streams.max_count IS 'Reads of the stream give the last so many events; NULL: all. The log keeps them.';
COMMENT ON COLUMN @extschema@.streams.max_age IS 'Reads of the stream give events younger than this; NULL: all. The log keeps them.';
COMMENT ON COLUMN @extschema@.streams.metadata IS 'JSON object of the application, see set_stream(); NULL: none.';
COMMENT ON COLUMN @extschema@.streams.created_at IS 'When it was made.';
COMMENT ON COLUMN @extschema@.streams.updated_at IS 'When it last changed: the last append or set_stream().';

ALTER TABLE @extschema@.streams ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON @extschema@.streams FOR SELECT USING (topic_id = ANY (ARRAY(
    SELECT t.topic_id FROM @extschema@.topics t
     WHERE has_column_privilege('@extschema@.topic_' || t.name, 'stream', 'SELECT')
        OR has_column_privilege('@extschema@.topic_' || t.name, 'stream', 'REFERENCES'))));
COMMENT ON POLICY readers ON @extschema@.streams IS 'Who may read a topic or append to it sees its streams.';

CREATE TYPE @extschema@.appended AS (id uuid, version bigint, "position" bigint, deduplicated boolean);
COMMENT ON TYPE @extschema@.appended IS 'What append() returns for each event.';
COMMENT ON COLUMN @extschema@.appended.id IS 'Event id.';
COMMENT ON COLUMN @extschema@.appended.version IS 'Place in the stream.';
COMMENT ON COLUMN @extschema@.appended."position" IS 'Place in the topic.';
COMMENT ON COLUMN @extschema@.appended.deduplicated IS 'true: the same append was made before; this is its result.';

CREATE TYPE @extschema@.stream_row AS (stream text, version bigint, first_version bigint, state text, tenant_id text, max_count bigint,
    max_age interval, metadata jsonb, created_at timestamptz, updated_at timestamptz);
COMMENT ON TYPE @extschema@.stream_row IS 'A stream, as stream_info() and list_streams() give it: columns as in streams.';

-- An appended event is remembered by its place in its stream, which is known before a position is spent.
ALTER TABLE @extschema@.dedup
    ADD stream @extschema@.stream_name,
    ADD version bigint,
    DROP CONSTRAINT dedup_place,
    ADD CONSTRAINT dedup_place CHECK (num_nonnulls("position", scheduled_id, version) = 1);
COMMENT ON COLUMN @extschema@.dedup."position" IS 'Where the event is; NULL: not in the log yet, or known by stream and version.';
COMMENT ON COLUMN @extschema@.dedup.stream IS 'Stream it was appended to; NULL: published.';
COMMENT ON COLUMN @extschema@.dedup.version IS 'Its version in the stream; NULL: published.';
COMMENT ON TABLE @extschema@.dedup IS 'Ids that callers supplied to publish() or append(), and those of delayed events, for the topic''s dedup_window: the same id and content gives the first position again.';

-- Leaves made before, as add_leaf() makes new ones. On a store with many events this takes its time,
-- and nobody publishes to it meanwhile.
DO $$
DECLARE
    x record;
BEGIN
    FOR x IN SELECT format('leaf_%s_%s', t.name, l.leaf) AS leaf FROM @extschema@.topics t JOIN @extschema@.leaves l USING (topic_id)
              WHERE t.streams ORDER BY l.leaf
    LOOP
        EXECUTE format('CREATE UNIQUE INDEX %I ON @extschema@.%I (stream, version) WHERE stream IS NOT NULL', x.leaf || '_stream', x.leaf);
        EXECUTE format('CREATE INDEX %I ON @extschema@.%I (split_part(stream, ''-'', 1), "position") WHERE stream IS NOT NULL', x.leaf || '_category', x.leaf);
        EXECUTE format('CREATE INDEX %I ON @extschema@.%I ((metadata ->> ''correlation_id''), "position") WHERE metadata ->> ''correlation_id'' IS NOT NULL', x.leaf || '_correlation', x.leaf);
        EXECUTE format('COMMENT ON INDEX @extschema@.%I IS %L', x.leaf || '_stream', 'Events of a stream; (stream, version) is unique.');
        EXECUTE format('COMMENT ON INDEX @extschema@.%I IS %L', x.leaf || '_category', 'Events of a category, in order.');
        EXECUTE format('COMMENT ON INDEX @extschema@.%I IS %L', x.leaf || '_correlation', 'Events with a correlation_id, in order.');
    END LOOP;
END $$;

CREATE TABLE @extschema@.audit (
    audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor    text NOT NULL,
    action   text NOT NULL,
    object   text NOT NULL,
    reason   text,
    detail   jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE @extschema@.audit IS 'Who did what that cannot be undone: redactions and deletions of streams. Rows are never changed or deleted.';
COMMENT ON COLUMN @extschema@.audit.audit_id IS 'Number.';
COMMENT ON COLUMN @extschema@.audit.at IS 'When.';
COMMENT ON COLUMN @extschema@.audit.actor IS 'Role that did it.';
COMMENT ON COLUMN @extschema@.audit.action IS 'redact, delete_stream, ...';
COMMENT ON COLUMN @extschema@.audit.object IS 'What it was done to.';
COMMENT ON COLUMN @extschema@.audit.reason IS 'Why, in the words of the actor; NULL: not said.';
COMMENT ON COLUMN @extschema@.audit.detail IS 'More, as a JSON object.';
