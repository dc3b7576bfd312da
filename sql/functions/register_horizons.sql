-- Read side of the safe horizon. The order of the statements is the proof (models/horizon.pml):
-- last values first, locks second; a lock seen is decoded against last values read after it, since
-- it may be newer than the first ones. The caller reads the log in a later statement.
-- pg_locks walks the whole lock table, most of the cost of looking for events: so one look serves all.
CREATE OR REPLACE FUNCTION @extschema@.register_horizons(sequences regclass[]) RETURNS bigint[]
    LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    firsts  bigint[];
    latest  bigint[];
    classes bigint[];
    keys    bigint[];
    others  bigint;
    held    bigint;
    i       integer;
    j       integer;
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        PERFORM @extschema@.fail('TL005', 'the safe horizon needs isolation level READ COMMITTED',
            jsonb_build_object('field', 'transaction_isolation', 'actual', current_setting('transaction_isolation')),
            'Read in a transaction of level READ COMMITTED, or in none.');
    END IF;
    IF pg_is_in_recovery() THEN
        PERFORM @extschema@.fail('25006', 'the safe horizon is not known on a standby', '{"field": "server"}', 'Read from the primary.');
    END IF;
    FOR i IN 1 .. cardinality(sequences) LOOP
        firsts[i] := coalesce(pg_sequence_last_value(sequences[i]), @extschema@.sequence_denied(sequences[i]));
    END LOOP;
    SELECT array_agg(l.classid::bigint) FILTER (WHERE l.classid = ANY (sequences::oid[])),
           array_agg(l.objid::bigint) FILTER (WHERE l.classid = ANY (sequences::oid[])),
           count(*) FILTER (WHERE l.classid = @extschema@.lock_class()::oid AND l.objid = 2 AND l.pid <> pg_backend_pid())
      INTO classes, keys, others
      FROM pg_locks l
     WHERE l.locktype = 'advisory' AND l.mode = 'ShareLock' AND l.granted AND l.objsubid = 2
       AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
    IF classes IS NULL THEN
        RETURN firsts || others;
    END IF;
    FOR i IN 1 .. cardinality(sequences) LOOP
        latest[i] := coalesce(pg_sequence_last_value(sequences[i]), @extschema@.sequence_denied(sequences[i]));
    END LOOP;
    FOR j IN 1 .. cardinality(classes) LOOP
        i := array_position(sequences::oid[], classes[j]::oid);
        -- the key is the low half of a position at most 2^32 behind: maintain() makes no leaf further ahead
        held := latest[i] - ((latest[i] - keys[j]) & 4294967295);
        firsts[i] := least(firsts[i], held);
    END LOOP;
    RETURN firsts || others;
END $$;
COMMENT ON FUNCTION @extschema@.register_horizons(regclass[]) IS
    'Internal: safe horizon of each position sequence, in order; then one more number, of other sessions that listen. READ COMMITTED only (TL005).';
