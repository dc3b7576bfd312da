-- Views stand with the functions: they are replaced whole when their text changes.
CREATE OR REPLACE VIEW @extschema@.subscription_status AS
SELECT s.subscription_id, s.name, t.name AS topic, s.pattern, s.tenant_id, s.filter, s.filter_path::text AS filter_path,
       s.target, s.mode, s.priority, s.ordering, s.slots, s.active, s.paused_at, s.pause_reason,
       s.drain_at IS NOT NULL AS draining, s.resize_at IS NOT NULL AS resizing,
       s.max_attempts, s.backoff, s.retry_delay, s.retry_cap, s.retry_schedule, s.on_failure,
       s.max_in_flight, s.rate_limit, s.timeout, s.track, s.target_options, s.registered_by, c.cursor,
       CASE WHEN s.mode = 'sync' AND s.target LIKE 'sql:%' THEN 0 -- runs when an event is published
            ELSE greatest(coalesce(pg_sequence_last_value(('@extschema@.position_' || t.name)::regclass),
                                @extschema@.sequence_denied(('@extschema@.position_' || t.name)::regclass)) - c.cursor, 0) END AS behind,
       (SELECT coalesce(sum(coalesce(l.events, 0) + l.retries), 0)::bigint FROM @extschema@.leases l WHERE l.subscription_id = s.subscription_id) AS leased,
       (SELECT count(*) FROM @extschema@.retries r WHERE r.subscription_id = s.subscription_id AND r.token IS NULL) AS retrying,
       (SELECT count(*) FROM @extschema@.dead_letters d WHERE d.subscription_id = s.subscription_id AND d.state = 'dead') AS dead,
       c.last_triggered_at, s.created_at, s.updated_at
  FROM @extschema@.subscriptions s
  JOIN @extschema@.topics t USING (topic_id)
  JOIN LATERAL (SELECT min(x.cursor) AS cursor, max(x.last_triggered_at) AS last_triggered_at
                  FROM @extschema@.cursors x WHERE x.subscription_id = s.subscription_id) c ON true;
COMMENT ON VIEW @extschema@.subscription_status IS
    'Subscriptions and how they stand: behind = positions not yet handed out (an upper bound of events), leased = events in flight, retrying, dead.';

CREATE OR REPLACE VIEW @extschema@.blocked_keys AS
SELECT s.name AS subscription, s.subscription_id, h.key, h."position", h.attempt, h.next_attempt_at, h.token IS NOT NULL AS in_flight,
       h.error_message, h.last_error_at,
       (SELECT count(*) FROM @extschema@.retries w
         WHERE w.subscription_id = h.subscription_id AND w.key = h.key AND w."position" > h."position") AS waiting
  FROM @extschema@.retries h
  JOIN @extschema@.subscriptions s USING (subscription_id)
 WHERE h.key IS NOT NULL
   AND NOT EXISTS (SELECT FROM @extschema@.retries b
                    WHERE b.subscription_id = h.subscription_id AND b.key = h.key AND b."position" < h."position");
COMMENT ON VIEW @extschema@.blocked_keys IS
    'Keys whose later events wait for one that failed (on_failure block_key or stop), with that event.';

CREATE OR REPLACE VIEW @extschema@.topic_status AS
SELECT t.topic_id, t.name AS topic, t.durability, t.rotation, t.retention, t.max_event_bytes, t.dedup_window,
       pg_sequence_last_value(('@extschema@.position_' || t.name)::regclass) AS last_position,
       (SELECT count(*) FROM @extschema@.leaves l WHERE l.topic_id = t.topic_id) AS leaves,
       (SELECT coalesce(sum(pg_total_relation_size(('@extschema@.leaf_' || t.name || '_' || l.leaf)::regclass)), 0)::bigint
          FROM @extschema@.leaves l WHERE l.topic_id = t.topic_id) AS bytes,
       t.created_at, t.reset_at,
       (SELECT count(*) FROM @extschema@.scheduled s WHERE s.topic_id = t.topic_id) AS scheduled,
       (SELECT min(s.run_at) FROM @extschema@.scheduled s WHERE s.topic_id = t.topic_id) AS next_run_at
  FROM @extschema@.topics t;
COMMENT ON VIEW @extschema@.topic_status IS 'Topics with last position reserved, number of leaves and size on disk.';

CREATE OR REPLACE VIEW @extschema@.scheduled_events AS
SELECT s.id, t.name AS topic, s.type, s.key, s.tenant_id, s.run_at, s.expires_at, s.published_by, s.created_at, s.attempts, s.error
  FROM @extschema@.scheduled s LEFT JOIN @extschema@.topics t USING (topic_id);
COMMENT ON VIEW @extschema@.scheduled_events IS 'Delayed events that are not in the log yet, without their data.';

CREATE OR REPLACE VIEW @extschema@.schedule_status AS
SELECT s.name, s.cron, s.timezone, t.name AS topic, s.type, s.data, s.key, s.tenant_id, s.source, s.metadata, s.missed, s.max_missed,
       s.active, s.last_at, s.next_at, s.fired, s.error, s.created_by, s.created_at, s.updated_at
  FROM @extschema@.schedules s JOIN @extschema@.topics t USING (topic_id);
COMMENT ON VIEW @extschema@.schedule_status IS 'Recurring schedules: when they fired last and fire next, and why they failed.';

CREATE OR REPLACE VIEW @extschema@.horizon_holders AS
SELECT t.name AS topic, l.pid, coalesce(a.application_name, '(prepared transaction)') AS application_name, a.state,
       clock_timestamp() - a.xact_start AS age, a.usename AS role
  FROM @extschema@.topics t
  JOIN (SELECT DISTINCT r.classid, r.virtualtransaction, r.pid -- one transaction may hold several of a topic
          FROM pg_locks r
         WHERE r.locktype = 'advisory' AND r.mode = 'ShareLock' AND r.objsubid = 2
           AND r.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())) l
       ON l.classid = ('@extschema@.position_' || t.name)::regclass::oid
  LEFT JOIN pg_stat_activity a ON a.pid = l.pid;
COMMENT ON VIEW @extschema@.horizon_holders IS
    'Transactions that have published and not ended: the only ones that hold the safe horizon back. pid NULL: a prepared transaction, see pg_prepared_xacts. age and state of other roles need pg_read_all_stats.';

COMMENT ON COLUMN @extschema@.subscription_status.topic IS 'Name of the topic.';
COMMENT ON COLUMN @extschema@.subscription_status.cursor IS 'Last position handed out or passed over.';
COMMENT ON COLUMN @extschema@.subscription_status.behind IS 'Positions not yet handed out: an upper bound of events.';
COMMENT ON COLUMN @extschema@.subscription_status.leased IS 'Events in flight, retried ones among them.';
COMMENT ON COLUMN @extschema@.subscription_status.retrying IS 'Events that failed and wait for another attempt.';
COMMENT ON COLUMN @extschema@.subscription_status.dead IS 'Events given up, see dead_letters.';
COMMENT ON COLUMN @extschema@.subscription_status.last_triggered_at IS 'When events were last handed out.';
COMMENT ON COLUMN @extschema@.subscription_status.draining IS 'It gets nothing new and pauses when all it has is settled.';
COMMENT ON COLUMN @extschema@.subscription_status.resizing IS 'A change of slots waits for what is in flight.';
COMMENT ON COLUMN @extschema@.blocked_keys.subscription IS 'Name of the subscription.';
COMMENT ON COLUMN @extschema@.blocked_keys.key IS 'The key; the empty text where everything waits.';
COMMENT ON COLUMN @extschema@.blocked_keys."position" IS 'The event that the others wait for.';
COMMENT ON COLUMN @extschema@.blocked_keys.next_attempt_at IS 'Not before this time; infinity: it has stopped the subscription.';
COMMENT ON COLUMN @extschema@.blocked_keys.in_flight IS 'true: it is being tried now.';
COMMENT ON COLUMN @extschema@.blocked_keys.waiting IS 'Later events of the key that were passed over so far.';
COMMENT ON COLUMN @extschema@.topic_status.topic IS 'Name of the topic.';
COMMENT ON COLUMN @extschema@.topic_status.last_position IS 'Last position reserved; 0: none.';
COMMENT ON COLUMN @extschema@.topic_status.leaves IS 'Leaves that exist, those ahead among them.';
COMMENT ON COLUMN @extschema@.topic_status.bytes IS 'Size on disk with indexes.';
COMMENT ON COLUMN @extschema@.topic_status.scheduled IS 'Delayed events that are not in the log yet.';
COMMENT ON COLUMN @extschema@.topic_status.next_run_at IS 'When the first of them falls due; NULL: there is none.';
COMMENT ON COLUMN @extschema@.scheduled_events.topic IS 'Name of the topic.';
COMMENT ON COLUMN @extschema@.schedule_status.topic IS 'Name of the topic.';
COMMENT ON COLUMN @extschema@.horizon_holders.topic IS 'Name of the topic.';
COMMENT ON COLUMN @extschema@.horizon_holders.pid IS 'Process; NULL: a prepared transaction.';
COMMENT ON COLUMN @extschema@.horizon_holders.application_name IS 'As the session calls itself.';
COMMENT ON COLUMN @extschema@.horizon_holders.state IS 'active, idle in transaction, ...';
COMMENT ON COLUMN @extschema@.horizon_holders.age IS 'How long the transaction has been open.';
COMMENT ON COLUMN @extschema@.horizon_holders.role IS 'Role of the session.';

-- the other columns are those of a table and say the same
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN SELECT v.attrelid::regclass AS view, v.attname, col_description(t.attrelid, t.attnum) AS words
               FROM pg_attribute v JOIN pg_attribute t ON t.attname = v.attname
              WHERE (v.attrelid, t.attrelid) IN (('@extschema@.subscription_status'::regclass, '@extschema@.subscriptions'::regclass),
                        ('@extschema@.topic_status'::regclass, '@extschema@.topics'::regclass),
                        ('@extschema@.scheduled_events'::regclass, '@extschema@.scheduled'::regclass),
                        ('@extschema@.schedule_status'::regclass, '@extschema@.schedules'::regclass),
                        ('@extschema@.blocked_keys'::regclass, '@extschema@.retries'::regclass))
                AND v.attnum > 0 AND col_description(v.attrelid, v.attnum) IS NULL
    LOOP
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', c.view, c.attname, c.words);
    END LOOP;
END $$;
