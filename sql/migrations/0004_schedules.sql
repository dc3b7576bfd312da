-- Delayed events and recurring schedules.
--
-- Lock order: scheduled (by due time), schedules -> in-flight register -> nextval -> dedup.

DROP FUNCTION IF EXISTS @extschema@.publish(text, jsonb, text, uuid, text, text, text, jsonb, timestamptz);
DROP FUNCTION IF EXISTS @extschema@.publish_batch(jsonb, text);
DROP FUNCTION IF EXISTS @extschema@.publish_once(text, jsonb, text, uuid, text, text, text, jsonb, timestamptz);

-- No types of events and no foreign key to topics: what the log refuses is kept here with its error,
-- and a shared lock on the row of a topic would make its publishers write to one page.
CREATE TABLE @extschema@.scheduled (
    scheduled_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic_id     integer NOT NULL,
    id           uuid NOT NULL,
    run_at       timestamptz NOT NULL,
    due_at       timestamptz NOT NULL,
    type         text NOT NULL,
    source       text,
    key          text,
    tenant_id    text,
    data         jsonb NOT NULL,
    metadata     jsonb,
    expires_at   timestamptz,
    ttl          interval,
    published_by text NOT NULL DEFAULT current_user,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts     integer NOT NULL DEFAULT 0,
    error        text,
    CONSTRAINT scheduled_run_at CHECK (isfinite(run_at))
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
CREATE INDEX scheduled_due ON @extschema@.scheduled (due_at, scheduled_id);
CREATE INDEX scheduled_of ON @extschema@.scheduled (id);
COMMENT ON TABLE @extschema@.scheduled IS
    'Events that are not due yet: publish() with run_at or delay puts them here, move_due() moves them into the log, cancel() and reschedule() change their fate until then.';
COMMENT ON COLUMN @extschema@.scheduled.scheduled_id IS 'Number, in the order of scheduling.';
COMMENT ON COLUMN @extschema@.scheduled.topic_id IS 'Topic.';
COMMENT ON COLUMN @extschema@.scheduled.id IS 'Event id: the caller''s or generated; the event keeps it.';
COMMENT ON COLUMN @extschema@.scheduled.run_at IS 'When it falls due.';
COMMENT ON COLUMN @extschema@.scheduled.due_at IS 'When move_due() takes it: run_at, later when moving it failed.';
COMMENT ON COLUMN @extschema@.scheduled.type IS 'As in events.';
COMMENT ON COLUMN @extschema@.scheduled.source IS 'As in events.';
COMMENT ON COLUMN @extschema@.scheduled.key IS 'As in events.';
COMMENT ON COLUMN @extschema@.scheduled.tenant_id IS 'As in events.';
COMMENT ON COLUMN @extschema@.scheduled.data IS 'As in events.';
COMMENT ON COLUMN @extschema@.scheduled.metadata IS 'As in events.';
COMMENT ON COLUMN @extschema@.scheduled.expires_at IS 'As in events; run_at + ttl if ttl is given.';
COMMENT ON COLUMN @extschema@.scheduled.ttl IS 'Life time from run_at on; NULL: expires_at is a fixed time.';
COMMENT ON COLUMN @extschema@.scheduled.published_by IS 'Role that published it.';
COMMENT ON COLUMN @extschema@.scheduled.created_at IS 'When it was published.';
COMMENT ON COLUMN @extschema@.scheduled.attempts IS 'Failed attempts to move it into the log.';
COMMENT ON COLUMN @extschema@.scheduled.error IS 'Why the last attempt failed; it is tried again every minute. NULL: none failed.';
COMMENT ON INDEX @extschema@.scheduled_due IS 'move_due(): what is due, in order.';
COMMENT ON INDEX @extschema@.scheduled_of IS 'cancel(), reschedule(): by id.';

-- Publishers insert here and cancel, but only for topics that they may publish to.
ALTER TABLE @extschema@.scheduled ENABLE ROW LEVEL SECURITY;
CREATE POLICY publishers ON @extschema@.scheduled USING (
    (SELECT has_column_privilege('@extschema@.topic_' || t.name, 'type', 'INSERT') FROM @extschema@.topics t WHERE t.topic_id = scheduled.topic_id));
COMMENT ON POLICY publishers ON @extschema@.scheduled IS 'Who may publish to a topic may schedule and cancel its events.';

-- An id is taken from the moment it is published, though its event has no position before it is due.
ALTER TABLE @extschema@.dedup
    ALTER "position" DROP NOT NULL,
    ADD scheduled_id bigint REFERENCES @extschema@.scheduled ON DELETE CASCADE,
    ADD CONSTRAINT dedup_place CHECK (("position" IS NULL) = (scheduled_id IS NOT NULL));
CREATE INDEX dedup_scheduled ON @extschema@.dedup (scheduled_id) WHERE scheduled_id IS NOT NULL;
DROP INDEX @extschema@.dedup_age;
CREATE INDEX dedup_age ON @extschema@.dedup (topic_id, created_at) WHERE scheduled_id IS NULL;
COMMENT ON COLUMN @extschema@.dedup."position" IS 'Where the event is; NULL: not in the log yet.';
COMMENT ON COLUMN @extschema@.dedup.scheduled_id IS 'Row of scheduled as long as the event is not due; NULL: it is in the log.';
COMMENT ON COLUMN @extschema@.dedup.created_at IS 'When it was published, or moved into the log.';
COMMENT ON TABLE @extschema@.dedup IS 'Ids that callers supplied to publish(), and those of delayed events, for the topic''s dedup_window: the same id and content gives the first position again.';
COMMENT ON INDEX @extschema@.dedup_age IS 'maintain(): forget ids older than the window.';
COMMENT ON INDEX @extschema@.dedup_scheduled IS 'cancel(): frees the id; move_due(): gives it a position.';

CREATE TABLE @extschema@.schedules (
    schedule_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL UNIQUE,
    cron        text NOT NULL,
    timezone    text NOT NULL,
    topic_id    integer NOT NULL REFERENCES @extschema@.topics,
    type        text NOT NULL,
    data        jsonb NOT NULL,
    key         text,
    tenant_id   text,
    source      text,
    metadata    jsonb,
    missed      text NOT NULL,
    max_missed  integer NOT NULL,
    active      boolean NOT NULL DEFAULT true,
    last_at     timestamptz,
    next_at     timestamptz NOT NULL,
    due_at      timestamptz NOT NULL,
    fired       bigint NOT NULL DEFAULT 0,
    error       text,
    created_by  text NOT NULL DEFAULT current_user,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT schedule_name CHECK (octet_length(name) BETWEEN 1 AND 255),
    CONSTRAINT schedule_missed CHECK (missed IN ('skip', 'once', 'all')),
    CONSTRAINT schedule_max_missed CHECK (max_missed BETWEEN 1 AND 1000)
) WITH (fillfactor = 50);
CREATE INDEX schedules_due ON @extschema@.schedules (due_at) WHERE active;
COMMENT ON TABLE @extschema@.schedules IS 'Events published again and again by the clock. Change by create_schedule(), set_schedule(), pause_schedule(), resume_schedule(), drop_schedule(); fire_schedules() fires them.';
COMMENT ON COLUMN @extschema@.schedules.schedule_id IS 'Number; part of the id of every event it fires.';
COMMENT ON COLUMN @extschema@.schedules.name IS '1 to 255 bytes.';
COMMENT ON COLUMN @extschema@.schedules.cron IS 'When: see next_fire().';
COMMENT ON COLUMN @extschema@.schedules.timezone IS 'Time zone that cron is read in.';
COMMENT ON COLUMN @extschema@.schedules.topic_id IS 'Topic published to.';
COMMENT ON COLUMN @extschema@.schedules.type IS 'Type of its events.';
COMMENT ON COLUMN @extschema@.schedules.data IS 'Data of its events.';
COMMENT ON COLUMN @extschema@.schedules.key IS 'Ordering key of its events; NULL: none.';
COMMENT ON COLUMN @extschema@.schedules.tenant_id IS 'Tenant of its events; NULL: system.';
COMMENT ON COLUMN @extschema@.schedules.source IS 'Source of its events; NULL: none.';
COMMENT ON COLUMN @extschema@.schedules.metadata IS 'Metadata of its events; schedule (its name) and slot (the time it stands for) are added.';
COMMENT ON COLUMN @extschema@.schedules.missed IS 'What becomes of slots that nobody fired in time: skip: nothing; once: the last of them fires; all: each fires, the last max_missed at most.';
COMMENT ON COLUMN @extschema@.schedules.max_missed IS 'Limit of missed = all, 1 to 1000.';
COMMENT ON COLUMN @extschema@.schedules.active IS 'false: paused.';
COMMENT ON COLUMN @extschema@.schedules.last_at IS 'Slot that fired last; NULL: none yet.';
COMMENT ON COLUMN @extschema@.schedules.next_at IS 'Slot that fires next.';
COMMENT ON COLUMN @extschema@.schedules.due_at IS 'When fire_schedules() looks at it: next_at, later when firing failed.';
COMMENT ON COLUMN @extschema@.schedules.fired IS 'Slots fired so far.';
COMMENT ON COLUMN @extschema@.schedules.error IS 'Why the last firing failed; it is tried again every minute. NULL: it did not.';
COMMENT ON COLUMN @extschema@.schedules.created_by IS 'Role that made it.';
COMMENT ON COLUMN @extschema@.schedules.created_at IS 'When it was made.';
COMMENT ON COLUMN @extschema@.schedules.updated_at IS 'When it was last changed by a person.';
COMMENT ON INDEX @extschema@.schedules_due IS 'fire_schedules(): what is due.';
