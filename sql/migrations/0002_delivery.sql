-- Delivery: ordering by slots, policies for failures, limits, replays, tracking.
--
-- Lock order: subscriptions -> cursors (by slot) -> replays -> throttles -> leases -> retries ->
-- dead_letters, deliveries. Of subscriptions rows FOR NO KEY UPDATE at most: who writes a lease or a
-- retry has its key locked by the foreign key.

DROP FUNCTION IF EXISTS @extschema@.subscribe(text, text, text, text, jsonb, jsonpath, text, integer, text, text, integer, interval, interval);
DROP FUNCTION IF EXISTS @extschema@.claim_many(bigint[], integer[], interval, text);
DROP FUNCTION IF EXISTS @extschema@.range_query(text, @extschema@.subscriptions, bigint, text, text);
DROP FUNCTION IF EXISTS @extschema@.retries_query(text, boolean);
DROP FUNCTION IF EXISTS @extschema@.record_failures(@extschema@.subscriptions, text, @extschema@.leases, bigint, jsonb);
DROP FUNCTION IF EXISTS @extschema@.bury(@extschema@.subscriptions, text, bigint, text, integer, text, jsonb);
DROP FUNCTION IF EXISTS @extschema@.backoff(interval, interval, integer);
DROP VIEW IF EXISTS @extschema@.subscription_status;

ALTER TABLE @extschema@.subscriptions
    ADD mode           text NOT NULL DEFAULT 'async',
    ADD backoff        text NOT NULL DEFAULT 'exponential',
    ADD retry_schedule interval[],
    ADD on_failure     text NOT NULL DEFAULT 'retry',
    ADD slots          integer NOT NULL DEFAULT 1,
    ADD resize_at      bigint,
    ADD drain_at       bigint,
    ADD max_in_flight  integer,
    ADD rate_limit     double precision,
    ADD timeout        interval,
    ADD track          text NOT NULL DEFAULT 'none',
    ADD target_options jsonb NOT NULL DEFAULT '{}',
    ADD registered_by  text NOT NULL DEFAULT current_user,
    ADD paused_at      timestamptz,
    ADD pause_reason   text,
    ADD CONSTRAINT subscription_mode CHECK (mode IN ('async', 'sync')),
    ADD CONSTRAINT subscription_backoff CHECK (backoff IN ('fixed', 'exponential', 'schedule')),
    ADD CONSTRAINT subscription_retry_schedule CHECK (CASE backoff WHEN 'schedule' THEN coalesce(cardinality(retry_schedule), 0) BETWEEN 1 AND 100 ELSE retry_schedule IS NULL END),
    ADD CONSTRAINT subscription_on_failure CHECK (on_failure IN ('retry', 'block_key', 'stop')),
    ADD CONSTRAINT subscription_slots CHECK (slots BETWEEN 1 AND 256),
    ADD CONSTRAINT subscription_slots_by_key CHECK (slots = 1 OR ordering = 'key'),
    ADD CONSTRAINT subscription_max_in_flight CHECK (max_in_flight BETWEEN 1 AND 1000000),
    ADD CONSTRAINT subscription_rate_limit CHECK (rate_limit > 0 AND rate_limit <= 1000000),
    ADD CONSTRAINT subscription_timeout CHECK (timeout BETWEEN interval '1 ms' AND interval '1 day'),
    ADD CONSTRAINT subscription_track CHECK (track IN ('none', 'all')),
    ADD CONSTRAINT subscription_target_options CHECK (jsonb_typeof(target_options) = 'object');
UPDATE @extschema@.subscriptions SET on_failure = 'block_key' WHERE ordering <> 'none';
COMMENT ON COLUMN @extschema@.subscriptions.mode IS 'async; or sync: a sql: target runs in the publisher''s transaction, for others publish_and_wait() waits.';
COMMENT ON COLUMN @extschema@.subscriptions.backoff IS 'Pause before a further attempt: fixed = retry_delay; exponential = between retry_delay and three times the last pause, at most retry_cap (decorrelated jitter); schedule = retry_schedule with jitter of 20 %.';
COMMENT ON COLUMN @extschema@.subscriptions.retry_schedule IS 'Pauses after the first, second, ... failure; the last one repeats. NULL unless backoff is schedule.';
COMMENT ON COLUMN @extschema@.subscriptions.on_failure IS 'retry: later events overtake one that failed. block_key: later events of its key wait (total: all). stop: as block_key, and when its attempts are used up the subscription pauses instead of giving the event up.';
COMMENT ON COLUMN @extschema@.subscriptions.slots IS 'Shares of the keys that may be claimed side by side, 1 to 256; above 1 for ordering key only.';
COMMENT ON COLUMN @extschema@.subscriptions.resize_at IS 'Position at which a change of slots takes effect: until every slot is there nothing behind it is handed out; NULL: none under way.';
COMMENT ON COLUMN @extschema@.subscriptions.drain_at IS 'Nothing behind this position is handed out, and when all before it is settled the subscription pauses; NULL: not draining.';
COMMENT ON COLUMN @extschema@.subscriptions.max_in_flight IS 'Events leased at a time, over all claimers; NULL: no limit.';
COMMENT ON COLUMN @extschema@.subscriptions.rate_limit IS 'Events handed out a second, over all claimers, with bursts of one second''s worth; NULL: no limit.';
COMMENT ON COLUMN @extschema@.subscriptions.timeout IS 'Limit of one attempt at a target of trunkline serve; NULL: that of the daemon.';
COMMENT ON COLUMN @extschema@.subscriptions.track IS 'all: a row of deliveries for each event; none: only failures leave rows.';
COMMENT ON COLUMN @extschema@.subscriptions.target_options IS 'Options of the target: see subscribe().';
COMMENT ON COLUMN @extschema@.subscriptions.registered_by IS 'Role that subscribed; a sql: target runs with its rights.';
COMMENT ON COLUMN @extschema@.subscriptions.paused_at IS 'When it was paused; NULL: active.';
COMMENT ON COLUMN @extschema@.subscriptions.pause_reason IS 'Why it was paused: a person''s words, or what stopped it.';

COMMENT ON COLUMN @extschema@.leases.events IS 'Matching events in the range; NULL: not counted.';
ALTER TABLE @extschema@.leases
    ALTER events DROP NOT NULL,
    ADD replay_id  bigint,
    ADD has_holes  boolean NOT NULL DEFAULT false,
    ADD is_tracked boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN @extschema@.leases.has_holes IS 'true: positions of the range that have a row of retries are not part of it.';
COMMENT ON COLUMN @extschema@.leases.is_tracked IS 'true: its events have rows of deliveries.';
COMMENT ON COLUMN @extschema@.leases.replay_id IS 'Replay whose range this is; NULL: live.';

ALTER TABLE @extschema@.retries
    ALTER last_error_at DROP NOT NULL,
    ADD key       text,
    ADD delay     interval NOT NULL DEFAULT interval '0',
    ADD event     jsonb,
    ADD replay_id bigint;
DROP INDEX @extschema@.retries_due;
CREATE INDEX retries_due ON @extschema@.retries (subscription_id, slot, next_attempt_at) WHERE token IS NULL;
COMMENT ON INDEX @extschema@.retries_due IS 'claim() and next_due(): what is due in a slot.';
CREATE INDEX retries_key ON @extschema@.retries (subscription_id, key, "position") WHERE key IS NOT NULL;
COMMENT ON COLUMN @extschema@.retries.key IS 'What waits for it: the event''s key (total: the empty text); NULL: nothing does.';
COMMENT ON COLUMN @extschema@.retries.next_attempt_at IS 'Not before this time; infinity: waits for an earlier event of its key.';
COMMENT ON COLUMN @extschema@.retries.delay IS 'Last pause; the next one grows from it.';
COMMENT ON COLUMN @extschema@.retries.event IS 'Copy of an event that may be gone from the log (redriven); NULL: read from the log.';
COMMENT ON COLUMN @extschema@.retries.replay_id IS 'Replay that it came from; NULL: live.';
COMMENT ON COLUMN @extschema@.retries.attempt IS 'Attempts begun so far; 0: waited from the start, or redriven.';
COMMENT ON COLUMN @extschema@.retries.error_message IS 'Last error; empty when there was no attempt yet.';
COMMENT ON COLUMN @extschema@.retries.last_error_at IS 'When it failed last; NULL: never.';
COMMENT ON TABLE @extschema@.retries IS 'Events that failed and will be tried again, those that wait for one of them, and redriven ones. An event that succeeds at once never has a row.';
COMMENT ON INDEX @extschema@.retries_key IS 'claim(), ack(): which keys are blocked, who is next of a key.';

ALTER TABLE @extschema@.dead_letters
    ADD state       text NOT NULL DEFAULT 'dead',
    ADD settled_at  timestamptz,
    ADD settled_by  text,
    ADD note        text,
    DROP CONSTRAINT dead_letter_reason,
    ADD CONSTRAINT dead_letter_reason CHECK (reason IN ('max_attempts', 'rejected', 'crashed', 'expired', 'skipped')),
    ADD CONSTRAINT dead_letter_state CHECK (state IN ('dead', 'redriven', 'discarded', 'resolved')),
    ADD CONSTRAINT dead_letter_settled CHECK ((state = 'dead') = (settled_at IS NULL));
CREATE INDEX dead_letters_dead ON @extschema@.dead_letters (subscription_id, dead_letter_id) WHERE state = 'dead';
COMMENT ON COLUMN @extschema@.dead_letters.state IS 'dead; redriven: handed out again; discarded: given up by a person; resolved: dealt with by other means.';
COMMENT ON COLUMN @extschema@.dead_letters.settled_at IS 'When it was redriven, discarded or resolved; NULL: dead.';
COMMENT ON COLUMN @extschema@.dead_letters.settled_by IS 'Role that did so.';
COMMENT ON COLUMN @extschema@.dead_letters.note IS 'Why, in a person''s words.';
COMMENT ON COLUMN @extschema@.dead_letters.reason IS 'max_attempts, rejected (the handler said never), crashed (its lease expired every time), expired (expires_at passed before it was delivered), skipped (a person passed over the event that had stopped the subscription).';
COMMENT ON INDEX @extschema@.dead_letters_dead IS 'Dead letters of a subscription that nobody has dealt with, oldest first.';

CREATE TABLE @extschema@.replays (
    replay_id       bigint NOT NULL,
    subscription_id bigint NOT NULL REFERENCES @extschema@.subscriptions ON DELETE CASCADE,
    slot            integer NOT NULL,
    cursor          bigint NOT NULL,
    upto            bigint NOT NULL,
    rate            double precision,
    tokens          double precision NOT NULL DEFAULT 0,
    refilled_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_by      text NOT NULL DEFAULT current_user,
    started_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT replays_pkey PRIMARY KEY (replay_id, slot),
    CONSTRAINT replay_range CHECK (cursor <= upto),
    CONSTRAINT replay_rate CHECK (rate > 0 AND rate <= 1000000)
) WITH (fillfactor = 50);
CREATE INDEX replays_of ON @extschema@.replays (subscription_id, slot);
CREATE SEQUENCE @extschema@.replay_ids AS bigint;
COMMENT ON SEQUENCE @extschema@.replay_ids IS 'Numbers of replays.';
COMMENT ON TABLE @extschema@.replays IS 'Ranges of the log that a subscription gets once more beside its live events, one row for each slot until it is through. Made by replay().';
COMMENT ON COLUMN @extschema@.replays.replay_id IS 'Number of the replay.';
COMMENT ON COLUMN @extschema@.replays.subscription_id IS 'Subscription.';
COMMENT ON COLUMN @extschema@.replays.slot IS 'Slot; its live and replayed events share one lease at a time.';
COMMENT ON COLUMN @extschema@.replays.cursor IS 'Last position handed out or passed over.';
COMMENT ON COLUMN @extschema@.replays.upto IS 'Last position of the replay.';
COMMENT ON COLUMN @extschema@.replays.rate IS 'Events a second in this slot; NULL: no limit.';
COMMENT ON COLUMN @extschema@.replays.tokens IS 'Events that may be handed out at once, as of refilled_at.';
COMMENT ON COLUMN @extschema@.replays.refilled_at IS 'When tokens was computed.';
COMMENT ON COLUMN @extschema@.replays.started_by IS 'Role that asked for it.';
COMMENT ON COLUMN @extschema@.replays.started_at IS 'When.';
COMMENT ON INDEX @extschema@.replays_of IS 'claim(): replays of a slot.';

CREATE TABLE @extschema@.throttles (
    subscription_id bigint PRIMARY KEY REFERENCES @extschema@.subscriptions ON DELETE CASCADE,
    tokens          double precision NOT NULL,
    refilled_at     timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
COMMENT ON TABLE @extschema@.throttles IS 'Token buckets of the subscriptions that have a rate_limit.';
COMMENT ON COLUMN @extschema@.throttles.subscription_id IS 'Subscription.';
COMMENT ON COLUMN @extschema@.throttles.tokens IS 'Events that may be handed out at once, as of refilled_at.';
COMMENT ON COLUMN @extschema@.throttles.refilled_at IS 'When tokens was computed.';

CREATE TABLE @extschema@.deliveries (
    subscription_id bigint NOT NULL REFERENCES @extschema@.subscriptions ON DELETE CASCADE,
    "position"      bigint NOT NULL,
    event_id        uuid NOT NULL,
    state           text NOT NULL,
    attempts        integer NOT NULL,
    started_at      timestamptz NOT NULL,
    completed_at    timestamptz,
    error_message   text,
    CONSTRAINT deliveries_pkey PRIMARY KEY (subscription_id, "position"),
    CONSTRAINT delivery_state CHECK (state IN ('processing', 'retrying', 'completed', 'skipped', 'failed', 'expired'))
) WITH (fillfactor = 80);
CREATE INDEX deliveries_age ON @extschema@.deliveries (completed_at) WHERE completed_at IS NOT NULL;
COMMENT ON TABLE @extschema@.deliveries IS 'One row for each event handed out to a subscription with track = all; forgotten 30 days after it ended.';
COMMENT ON COLUMN @extschema@.deliveries.subscription_id IS 'Subscription.';
COMMENT ON COLUMN @extschema@.deliveries."position" IS 'Event.';
COMMENT ON COLUMN @extschema@.deliveries.event_id IS 'Id of the event.';
COMMENT ON COLUMN @extschema@.deliveries.state IS 'processing, retrying (failed, will be tried again), completed, skipped, failed (dead letter) or expired.';
COMMENT ON COLUMN @extschema@.deliveries.attempts IS 'Attempts begun.';
COMMENT ON COLUMN @extschema@.deliveries.started_at IS 'When it was first handed out.';
COMMENT ON COLUMN @extschema@.deliveries.completed_at IS 'When it ended; NULL: not yet.';
COMMENT ON COLUMN @extschema@.deliveries.error_message IS 'Last error; NULL: none.';
COMMENT ON INDEX @extschema@.deliveries_age IS 'maintain(): forget old ones.';
