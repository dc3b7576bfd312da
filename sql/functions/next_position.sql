-- The whole write side of the safe horizon and the doorbell (ARCHITECTURE.md), once or twice per transaction
-- and topic: register the present last value, remember that, ring only if the sentinel sleeps, and
-- only then reserve a position. Each step is the condition of the next, so none can be left out.
-- A single expression of built-ins, parsed now: the planner inlines it into the DEFAULT of a topic,
-- where it costs little more than nextval. Therefore no search_path of its own. What is rarely needed
-- is in bell_ring(), for each function costs an INSERT whether it is called or not.
CREATE OR REPLACE FUNCTION @extschema@.next_position(topic_sequence regclass) RETURNS bigint
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    RETURN nextval(CASE
        -- set in this transaction, and not undone by ROLLBACK TO SAVEPOINT (which drops the lock too)
        WHEN current_setting('trunkline.in_' || topic_sequence::oid::text, true) = to_hex(txid_current_if_assigned())
        THEN topic_sequence
        WHEN pg_advisory_xact_lock_shared(topic_sequence::oid::integer,
                                          pg_sequence_last_value(topic_sequence)::bit(32)::integer) IS NULL
            -- Most transactions write one event and nothing else: without a marker, which every commit would walk
            -- all settings for. A second event, where there is one, takes a second lock; the lower one counts.
            OR txid_current_if_assigned() IS NOT NULL
                AND set_config('trunkline.in_' || topic_sequence::oid::text, to_hex(txid_current_if_assigned()), true) IS NULL
            -- before the draw: decision 14
            OR txid_current() IS NULL
        THEN NULL
        -- got it: the sentinel is awake and cannot fall asleep before this transaction ends
        WHEN pg_try_advisory_xact_lock_shared('@extschema@.topics'::regclass::oid::integer, 0)
        THEN topic_sequence
        ELSE @extschema@.bell_ring(topic_sequence)
    END);
COMMENT ON FUNCTION @extschema@.next_position(regclass) IS
    'Internal: DEFAULT of "position". Takes the in-flight lock, rings the doorbell if needed, then nextval. SET LOCAL trunkline.ring = off skips the ring (needed before PREPARE TRANSACTION; readers then find the events at their next poll).';
