CREATE OR REPLACE FUNCTION @extschema@.has_pending(s @extschema@.subscriptions) RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    topic text;
    h     bigint;
    c     @extschema@.cursors;
    n     bigint;
BEGIN
    IF s.mode = 'sync' AND s.target ~ '^sql:' THEN
        RETURN false;
    END IF;
    SELECT t.name INTO STRICT topic FROM @extschema@.topics t WHERE t.topic_id = s.topic_id;
    h := @extschema@.horizon(topic);
    SELECT count(*) INTO s.slots FROM @extschema@.cursors x WHERE x.subscription_id = s.subscription_id;
    FOR c IN SELECT x.* FROM @extschema@.cursors x WHERE x.subscription_id = s.subscription_id AND x.cursor < h LOOP
        EXECUTE @extschema@.range_query(topic, s, c.slot, false, h - c.cursor, 'count(*)', '') INTO n
            USING c.cursor, h, @extschema@.type_operand(s.pattern), s.tenant_id, s.filter, s.filter_path;
        IF n = 0 AND h - c.cursor > 10000 THEN
            -- it looked at 10000 rows at most; whether the rest has one that matches may take long to find out
            EXECUTE format('SELECT count(*) FROM (SELECT FROM @extschema@.%I e WHERE e."position" > $1 AND e."position" <= $2 LIMIT 10001) q', 'topic_' || topic)
                INTO n USING c.cursor, h;
            n := n - 10000;
        END IF;
        IF n > 0 THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN EXISTS (SELECT FROM @extschema@.replays p WHERE p.subscription_id = s.subscription_id);
EXCEPTION WHEN insufficient_privilege THEN
    RETURN false; -- who may not read the topic gets nothing of it
END $$;
COMMENT ON FUNCTION @extschema@.has_pending(@extschema@.subscriptions) IS
    'Internal: does the log have an event that a subscription wants and has not got to, or will get once more? true as well when 10000 events do not tell.';
