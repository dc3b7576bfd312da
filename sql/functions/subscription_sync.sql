-- The one place that turns handlers in the publisher's transaction on and off, whatever writes the row:
-- subscribe(), pause(), resume(), unsubscribe(), drop_topic().
CREATE OR REPLACE FUNCTION @extschema@.subscription_sync() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    was_inline boolean := coalesce(TG_OP <> 'INSERT' AND OLD.mode = 'sync' AND OLD.target LIKE 'sql:%', false);
    is_inline  boolean := coalesce(TG_OP <> 'DELETE' AND NEW.mode = 'sync' AND NEW.target LIKE 'sql:%', false);
    topic      text;
    h          bigint;
    has_work   boolean;
    starts     boolean;
BEGIN
    IF NOT was_inline AND NOT is_inline THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN
        PERFORM @extschema@.sync_topic(OLD.topic_id);
        RETURN NULL;
    ELSIF TG_OP = 'INSERT' THEN
        PERFORM @extschema@.sync_topic(NEW.topic_id, NEW.active); -- subscribe() sets the cursor
        RETURN NULL;
    ELSIF (was_inline, OLD.active) = (is_inline, NEW.active) THEN
        RETURN NULL;
    END IF;
    starts := is_inline AND (NEW.active OR NOT was_inline);
    -- with publishers kept out a start has an exact place in the log: the horizon
    PERFORM @extschema@.sync_topic(NEW.topic_id, starts);
    IF NOT starts AND is_inline THEN
        RETURN NULL; -- paused
    END IF;
    SELECT t.name INTO STRICT topic FROM @extschema@.topics t WHERE t.topic_id = NEW.topic_id;
    h := @extschema@.horizon(topic);
    IF NOT was_inline THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM @extschema@.%I e
                WHERE e."position" > (SELECT min(c.cursor) FROM @extschema@.cursors c WHERE c.subscription_id = $1) AND e."position" <= $2
                  AND e.type ~ coalesce($3, '''') AND ($4 IS NULL OR e.tenant_id = $4) AND ($5 IS NULL OR e.data @> $5)
                  AND ($6 IS NULL OR jsonb_path_match_tz(e.data, $6, ''{}'', true)))', 'topic_' || topic) INTO has_work
            USING NEW.subscription_id, h, @extschema@.pattern_regex(NEW.pattern), NEW.tenant_id, NEW.filter, NEW.filter_path;
        IF has_work OR EXISTS (SELECT FROM @extschema@.leases l WHERE l.subscription_id = NEW.subscription_id)
            OR EXISTS (SELECT FROM @extschema@.retries r WHERE r.subscription_id = NEW.subscription_id)
        THEN
            PERFORM @extschema@.fail('TL001', format('subscription "%s" has events to handle, which mode sync would lose', NEW.name),
                '{"field": "mode"}', 'Let them be handled first, or unsubscribe and subscribe again.');
        END IF;
    END IF;
    UPDATE @extschema@.cursors c SET cursor = h, epoch = c.epoch + 1 WHERE c.subscription_id = NEW.subscription_id;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION @extschema@.subscription_sync() IS
    'Internal: trigger of subscriptions: keeps the triggers of topics in step with active sync subscriptions to SQL functions, and their cursors at the position from which they are called.';
CREATE OR REPLACE TRIGGER sync AFTER INSERT OR UPDATE OR DELETE ON @extschema@.subscriptions
    FOR EACH ROW EXECUTE FUNCTION @extschema@.subscription_sync();
COMMENT ON TRIGGER sync ON @extschema@.subscriptions IS 'Turns handlers in the publisher''s transaction on and off.';
