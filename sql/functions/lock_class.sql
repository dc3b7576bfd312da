-- Advisory locks of the two-key kind: class lock_class() for what there is one of in the schema,
-- class = oid of a position sequence for the in-flight register. Oids never coincide.
--   key 0 bell, 1 sentinel, 2 listeners, 3 leader, 4 maintain(), 5 move_due(), below 0 lock_line() of a subscription
CREATE OR REPLACE FUNCTION @extschema@.lock_class() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN '@extschema@.topics'::regclass::oid::integer;
COMMENT ON FUNCTION @extschema@.lock_class() IS
    'Internal: class of the advisory locks (class, key) of this schema; keys: 0 bell, 1 sentinel, 2 listeners, 3 leader, 4 maintain(), 5 move_due(), below 0 lock_line() of a subscription.';
