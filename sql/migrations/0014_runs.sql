-- Successes of which there is nothing to say by themselves are logged many to a row.

CREATE TABLE @extschema@.delivery_runs (
    call_id         bigint NOT NULL,
    first           integer NOT NULL,
    subscription_id bigint NOT NULL,
    subscription    text NOT NULL,
    url             text NOT NULL,
    http_status     integer NOT NULL,
    started_at      timestamptz NOT NULL,
    first_event     uuid NOT NULL,
    last_event      uuid NOT NULL,
    numbers         integer[] NOT NULL,
    event_ids       uuid[] NOT NULL,
    event_types     text[] NOT NULL,
    positions       bigint[] NOT NULL,
    durations_us    bigint[] NOT NULL,
    started_us      bigint[] NOT NULL,
    CONSTRAINT delivery_runs_pkey PRIMARY KEY (call_id, first)
);
-- compressing them would cost more than all the rest
ALTER TABLE @extschema@.delivery_runs
    ALTER numbers SET STORAGE EXTERNAL, ALTER event_ids SET STORAGE EXTERNAL, ALTER event_types SET STORAGE EXTERNAL,
    ALTER positions SET STORAGE EXTERNAL, ALTER durations_us SET STORAGE EXTERNAL, ALTER started_us SET STORAGE EXTERNAL;
CREATE INDEX delivery_runs_of ON @extschema@.delivery_runs (last_event, first_event);
CREATE INDEX delivery_runs_latest ON @extschema@.delivery_runs (subscription, call_id, first);
CREATE INDEX delivery_runs_age ON @extschema@.delivery_runs (started_at);
COMMENT ON TABLE @extschema@.delivery_runs IS 'Log of requests to webhooks, of those that went well at the first attempt and had an answer without a body: one row for all of a webhook that came in one call, an element of each array for each. Only ever inserted into; maintain() forgets it after 30 days. Read it by webhook_attempts or webhook_log().';
COMMENT ON COLUMN @extschema@.delivery_runs.call_id IS 'Number of the call, from the sequence of attempt_id.';
COMMENT ON COLUMN @extschema@.delivery_runs.first IS 'The least of numbers.';
COMMENT ON COLUMN @extschema@.delivery_runs.subscription_id IS 'Subscription, which may be gone.';
COMMENT ON COLUMN @extschema@.delivery_runs.subscription IS 'Its name then.';
COMMENT ON COLUMN @extschema@.delivery_runs.url IS 'Where to, without user, password and query.';
COMMENT ON COLUMN @extschema@.delivery_runs.http_status IS 'Status of all answers.';
COMMENT ON COLUMN @extschema@.delivery_runs.started_at IS 'Start of the last of them, less than an hour after the first, by the clock of the daemon.';
COMMENT ON COLUMN @extschema@.delivery_runs.first_event IS 'Least of event_ids, which are of UUID version 7, in the order of time.';
COMMENT ON COLUMN @extschema@.delivery_runs.last_event IS 'Greatest of event_ids.';
COMMENT ON COLUMN @extschema@.delivery_runs.numbers IS 'Places in the call; call_id and the place are the attempt_id.';
COMMENT ON COLUMN @extschema@.delivery_runs.event_ids IS 'Events.';
COMMENT ON COLUMN @extschema@.delivery_runs.event_types IS 'Their types.';
COMMENT ON COLUMN @extschema@.delivery_runs.positions IS 'Their positions.';
COMMENT ON COLUMN @extschema@.delivery_runs.durations_us IS 'From the start of each request to its end.';
COMMENT ON COLUMN @extschema@.delivery_runs.started_us IS 'Their starts, in microseconds since 1970.';
COMMENT ON INDEX @extschema@.delivery_runs_of IS 'webhook_log(), find_event(): what became of an event.';
COMMENT ON INDEX @extschema@.delivery_runs_latest IS 'webhook_log(): the latest of a webhook.';
COMMENT ON INDEX @extschema@.delivery_runs_age IS 'maintain(): forget old ones.';

-- a call takes the numbers of all its entries at once
ALTER TABLE @extschema@.delivery_attempts ALTER COLUMN attempt_id SET INCREMENT BY 10000;
COMMENT ON TABLE @extschema@.delivery_attempts IS 'Log of requests to webhooks, but for those in delivery_runs; only ever inserted into. maintain() forgets it after 30 days. See the option log of targets.';
COMMENT ON COLUMN @extschema@.delivery_attempts.attempt_id IS 'Number of the entry, rising.';

-- an event goes to few webhooks, and what is redacted is looked for without one
DROP INDEX @extschema@.delivery_attempts_of;
CREATE INDEX delivery_attempts_of ON @extschema@.delivery_attempts (event_id);
COMMENT ON INDEX @extschema@.delivery_attempts_of IS 'webhook_log(), find_event(), redact(): what became of an event.';
