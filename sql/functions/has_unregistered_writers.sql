-- A statement locks its table before it evaluates the DEFAULT that registers it.
CREATE OR REPLACE FUNCTION @extschema@.has_unregistered_writers(topic text) RETURNS boolean LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM pg_locks w
         WHERE w.locktype = 'relation' AND w.mode = 'RowExclusiveLock' AND w.relation = ('@extschema@.topic_' || topic)::regclass
           AND w.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
           AND NOT EXISTS (
                SELECT FROM pg_locks r
                 WHERE r.locktype = 'advisory' AND r.mode = 'ShareLock' AND r.objsubid = 2 AND r.database = w.database
                   AND r.classid = ('@extschema@.position_' || topic)::regclass::oid
                   AND r.virtualtransaction = w.virtualtransaction))
$$;
COMMENT ON FUNCTION @extschema@.has_unregistered_writers(text) IS
    'Internal: is there a transaction that writes to the topic and holds no lock of the in-flight register, so that it may be about to take one?';
