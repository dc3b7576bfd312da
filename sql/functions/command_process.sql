CREATE OR REPLACE FUNCTION @extschema@.command_process(id uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    c       @extschema@.commands;
    named   text;
    f       regprocedure;
    topic   text;
    seen    bigint;
    events  jsonb;
    outcome text := 'failed';
    ids     uuid[] := '{}';
    problem text;
    state   text;
BEGIN
    SELECT x.* INTO c FROM @extschema@.commands x WHERE x.id = command_process.id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM @extschema@.fail('TL002', format('there is no command %s', coalesce(command_process.id::text, 'NULL')),
            jsonb_build_object('field', 'id', 'value', command_process.id));
    ELSIF c.status <> 'pending' THEN
        RETURN false;
    END IF;
    SELECT t.name INTO STRICT topic FROM @extschema@.topics t WHERE t.topic_id = c.topic_id;
    SELECT h.function INTO named FROM @extschema@.command_handlers h WHERE h.type = c.type;
    f := @extschema@.function_named(named, 'jsonb');
    IF named IS NULL THEN
        outcome := 'rejected';
        problem := format('no handler knows commands of type "%s"', c.type);
    ELSIF f IS NULL THEN
        problem := format('handler %s(jsonb) is gone', named);
    END IF;
    WHILE problem IS NULL AND outcome = 'failed' LOOP
        c.attempts := c.attempts + 1;
        BEGIN
            SELECT i.version, i.state INTO seen, state FROM @extschema@.stream_info(c.aggregate, topic, c.tenant_id) i;
            seen := coalesce(seen, 0);
            -- as append() would decide
            IF (CASE c.expected_version WHEN -1 THEN seen = 0 OR state <> 'open' WHEN 0 THEN seen <> 0 AND state <> 'deleted'
                ELSE c.expected_version <> seen END)
            THEN
                problem := format('aggregate "%s" is at version %s, expected %s', c.aggregate, seen,
                    CASE c.expected_version WHEN -1 THEN 'exists' WHEN 0 THEN 'no_stream' ELSE c.expected_version::text END);
                EXIT;
            END IF;
            EXECUTE format('SELECT %s($1)', f::oid::regproc) INTO events
                USING jsonb_build_object('id', c.id, 'aggregate', c.aggregate, 'type', c.type, 'data', c.data, 'metadata', c.metadata,
                    'tenant_id', c.tenant_id, 'version', seen);
            events := CASE jsonb_typeof(events) WHEN 'object' THEN jsonb_build_array(events) WHEN 'null' THEN NULL ELSE events END;
            IF events <> '[]' THEN
                -- what it says itself counts; the cause is the command
                SELECT jsonb_agg(CASE WHEN jsonb_typeof(e.value) = 'object' AND coalesce(jsonb_typeof(e.value -> 'metadata'), 'object') IN ('object', 'null')
                        THEN e.value || jsonb_build_object('metadata', jsonb_build_object('correlation_id', c.id, 'causation_id', c.id)
                            || coalesce(c.metadata, '{}') || coalesce(nullif(e.value -> 'metadata', 'null'), '{}'))
                        ELSE e.value END ORDER BY e.ordinality)
                  INTO events FROM jsonb_array_elements(events) WITH ORDINALITY e;
                SELECT array_agg(a.id ORDER BY a.version) INTO ids
                  FROM @extschema@.append(c.aggregate, events, seen, topic, c.tenant_id) a;
            END IF;
            outcome := 'processed';
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, problem = MESSAGE_TEXT;
            IF state LIKE ANY ('{40%,53%,55P03}') THEN
                RAISE; -- the transaction failed (or had no room, or no lock in time), not the command
            ELSIF state = 'TL001' AND c.attempts < 10 THEN
                IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
                    RAISE; -- it would not see more the next time
                END IF;
                problem := NULL; -- somebody appended meanwhile: decide anew
            ELSIF state = 'TL008' THEN
                outcome := 'rejected';
            ELSE
                problem := problem || ' (' || state || ')';
            END IF;
        END;
    END LOOP;
    UPDATE @extschema@.commands x SET status = outcome, attempts = c.attempts, event_ids = coalesce(ids, '{}'), error = problem,
            processed_at = clock_timestamp()
     WHERE x.id = c.id;
    RETURN outcome = 'processed';
END $$;
COMMENT ON FUNCTION @extschema@.command_process(uuid) IS
    'Run a pending command: its handler decides, its events are appended at the version the handler was shown, and its status changes, all in the caller''s transaction. When somebody else appended meanwhile the handler decides anew, up to 10 times. true: processed. false: rejected or failed, see commands.status and error, or not pending any more: of two callers at once the second waits and gets false. A failure undoes what the handler did. A failure of the transaction (SQLSTATE 40..., 53..., 55P03: lock_timeout) is raised and leaves the command pending. TL002 unknown id.';
