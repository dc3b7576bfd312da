-- What trunkline serve does for sql: targets, by hand and for one event: through claim() and ack(), so that
-- order, leases and attempts are those of everybody else.
CREATE OR REPLACE FUNCTION @extschema@.process_event(event_id uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    in_topic text;
    at       bigint;
    o        record;
    e        record;
    f        regprocedure;
    own_role text := current_user;
    used     uuid;
    last_pos bigint;
    failure  jsonb;
    state    text;
    problem  text;
BEGIN
    SELECT l.topic, l."position" INTO in_topic, at FROM @extschema@.locate(process_event.event_id) l LIMIT 1;
    IF NOT FOUND OR at > @extschema@.horizon(in_topic) THEN
        RETURN false;
    END IF;
    FOR o IN SELECT x.subscription, s.subscription_id, s.target, s.registered_by
               FROM @extschema@.outcomes(NULL, in_topic, at) x JOIN @extschema@.subscriptions s ON s.name = x.subscription
              WHERE x.active AND s.target LIKE 'sql:%' AND x.state IN ('pending', 'retrying')
    LOOP
        f := @extschema@.target_function(o.target);
        CONTINUE WHEN f IS NULL;
        LOOP
            used := NULL;
            failure := NULL;
            FOR e IN SELECT c.* FROM @extschema@.claim(o.subscription, lease => interval '1 hour') c ORDER BY c."position" LOOP
                used := e.token;
                last_pos := e."position";
                BEGIN
                    EXECUTE format('SET LOCAL ROLE %I', o.registered_by);
                    EXECUTE format('SELECT %s($1)', f::oid::regproc) USING to_jsonb(e) - 'token' - 'attempt';
                    EXECUTE format('SET LOCAL ROLE %I', own_role);
                EXCEPTION WHEN OTHERS THEN -- the role is undone with it
                    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, problem = MESSAGE_TEXT;
                    IF state LIKE '40%' THEN
                        RAISE;
                    END IF;
                    failure := jsonb_build_array(jsonb_build_object('position', e."position", 'error', problem || ' (' || state || ')',
                        'verdict', CASE state WHEN 'TL008' THEN 'fail' ELSE 'retry' END));
                    EXIT;
                END;
                EXIT WHEN last_pos >= at;
            END LOOP;
            EXIT WHEN used IS NULL;
            PERFORM @extschema@.ack(used, last_pos, failure);
            IF EXISTS (SELECT FROM @extschema@.leases l WHERE l.token = used) THEN
                PERFORM @extschema@.release(used);
            END IF;
            EXIT WHEN last_pos >= at;
        END LOOP;
    END LOOP;
    RETURN NOT EXISTS (
        SELECT FROM @extschema@.outcomes(NULL, in_topic, at) x JOIN @extschema@.subscriptions s ON s.name = x.subscription
         WHERE x.active AND s.target LIKE 'sql:%' AND x.state NOT IN ('completed', 'skipped'));
END $$;
COMMENT ON FUNCTION @extschema@.process_event(uuid) IS
    'Call the SQL functions that an event waits for now, instead of waiting for trunkline serve: for each active subscription with a sql: target that wants the event, what waits for it up to this event, in its order. A function that fails is recorded as by serve, and the others go on. true: all of them have done the event, now or earlier; false: one failed, another process has it, or the event is unknown or not committed. Runs in the caller''s transaction, each function with the rights of the role that subscribed (which the caller must be a member of). READ COMMITTED only.';
