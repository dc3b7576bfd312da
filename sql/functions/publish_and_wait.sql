-- Commits, so it cannot pin search_path: it uses nothing that is looked up there.
CREATE OR REPLACE PROCEDURE @extschema@.publish_and_wait(
        type text, data jsonb, topic text DEFAULT 'bus', event_id uuid DEFAULT NULL, key text DEFAULT NULL,
        tenant_id text DEFAULT NULL, source text DEFAULT NULL, metadata jsonb DEFAULT NULL,
        expires_at timestamptz DEFAULT NULL, wait interval DEFAULT interval '30 s',
        INOUT at bigint DEFAULT NULL, INOUT is_handled boolean DEFAULT NULL, INOUT outcomes jsonb DEFAULT NULL)
    LANGUAGE plpgsql AS $$
DECLARE
    is_over boolean;
    pause   double precision;
    since   timestamptz;
BEGIN
    PERFORM FROM @extschema@.sync_outcomes(NULL, NULL, NULL, NULL) LIMIT 0; -- who may not look shall not store
    SELECT p."position" INTO STRICT at FROM @extschema@.publish(publish_and_wait.type, publish_and_wait.data, publish_and_wait.topic,
        publish_and_wait.event_id, publish_and_wait.key, publish_and_wait.tenant_id, publish_and_wait.source, publish_and_wait.metadata,
        publish_and_wait.expires_at) p;
    COMMIT;
    since := pg_catalog.clock_timestamp();
    LOOP
        SELECT x.is_over, x.is_handled, x.outcomes, x.pause INTO STRICT is_over, is_handled, outcomes, pause
          FROM @extschema@.sync_outcomes(publish_and_wait.topic, at, since, publish_and_wait.wait) x;
        COMMIT; -- holds no snapshot while it sleeps
        EXIT WHEN is_over;
        PERFORM pg_catalog.pg_sleep(pause);
    END LOOP;
END $$;
COMMENT ON PROCEDURE @extschema@.publish_and_wait(text, jsonb, text, uuid, text, text, text, jsonb, timestamptz, interval, bigint, boolean, jsonb) IS
    'CALL it outside of a transaction: publish an event, commit, and wait until every active subscription of mode sync that wants it has handled it or given it up, at most so long as wait says. Gives its position, whether all have handled it, and [{"subscription", "state", "active", "attempts", "error"}]. What is not handled in time stays stored and is still delivered. Arguments as publish(). Inside a transaction nobody could see the event before the commit: refused (2D000), nothing is stored.';
