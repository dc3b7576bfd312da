-- Runs for every statement that inserts into a topic with an active sync subscription to a SQL
-- function: INSERT, COPY, publish() and all that is made of them. sync_topic() makes the trigger, so
-- that other topics pay nothing. With the rights of the owner of the schema, because a publisher may
-- neither read subscriptions nor call their functions: docs/decisions/0005-sync-runs-as-owner.md.
CREATE OR REPLACE FUNCTION @extschema@.run_sync() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s         @extschema@.subscriptions;
    e         record;
    f         regprocedure;
    at_type   text;
    state     text;
    problem   text;
    detail    text;
    hint      text;
BEGIN
    FOR s IN SELECT * FROM @extschema@.subscriptions x
              WHERE x.topic_id = TG_ARGV[0]::integer AND x.active AND x.mode = 'sync' AND x.target LIKE 'sql:%'
              ORDER BY x.priority DESC, x.name COLLATE "C"
    LOOP
        at_type := NULL;
        BEGIN
            f := NULL;
            FOR e IN SELECT p.type, to_jsonb(p) - 'topic_id' AS event FROM published p
                      WHERE (s.pattern IN ('*', '**') OR p.type ~ @extschema@.pattern_regex(s.pattern))
                        AND (s.tenant_id IS NULL OR p.tenant_id = s.tenant_id)
                        AND (s.filter IS NULL OR p.data @> s.filter)
                        AND (s.filter_path IS NULL OR jsonb_path_match_tz(p.data, s.filter_path, '{}', true))
                      ORDER BY p."position"
            LOOP
                at_type := e.type;
                IF f IS NULL THEN
                    IF pg_trigger_depth() > 16 THEN
                        PERFORM @extschema@.fail('TL007', 'handlers publish to their own topic, more than 16 deep', '{"limit": 16}');
                    END IF;
                    f := @extschema@.target_function(s.target);
                    IF f IS NULL THEN
                        RAISE undefined_function USING MESSAGE = format('there is no function %s(jsonb)', substr(s.target, 5));
                    END IF;
                END IF;
                EXECUTE format('SELECT %s($1)', f::oid::regproc) USING e.event;
            END LOOP;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, problem = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
                hint = PG_EXCEPTION_HINT;
            -- an event that a handler published was refused: that says it all
            IF state = 'TL008' AND detail LIKE '{"type": %"message": %"sqlstate": %"subscription": %}' THEN
                RAISE;
            END IF;
            -- class 40: the transaction failed, not the event; who publishes begins it again
            RAISE EXCEPTION USING
                ERRCODE = CASE WHEN state LIKE '40%' THEN state ELSE 'TL008' END,
                MESSAGE = format('subscription "%s" refused an event of type %s: %s', s.name, at_type, problem),
                DETAIL = jsonb_build_object('subscription', s.name, 'type', at_type, 'sqlstate', state, 'message', left(problem, 500))::text,
                HINT = hint;
        END;
    END LOOP;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION @extschema@.run_sync() IS
    'Internal: trigger that calls the SQL functions of a topic''s active sync subscriptions for the events just inserted: subscriptions by priority and name, events by position. What a function raises refuses the publish: TL008, with subscription, type, sqlstate and message in DETAIL; serialization failures and deadlocks keep their state.';
