-- A generated id holds topic and position (next_id()); others are known to dedup if publish() or append() was given them.
-- SECURITY DEFINER, for dedup holds those of all topics: docs/decisions/0008-append-checks-its-caller.md.
CREATE OR REPLACE FUNCTION @extschema@.locate(event_id uuid) RETURNS TABLE (topic text, "position" bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 1
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    hex text := replace(locate.event_id::text, '-', '');
    x   record;
BEGIN
    SELECT t.name INTO topic FROM @extschema@.topics t
     WHERE t.topic_id = ('x' || substr(hex, 14, 3))::bit(12)::integer AND substr(hex, 13, 1) = '7'
       AND has_column_privilege(@extschema@.caller(), '@extschema@.topic_' || t.name, 'id', 'SELECT');
    IF FOUND THEN
        "position" := @extschema@.made_at(topic, locate.event_id);
        IF "position" IS NOT NULL THEN
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;
    FOR x IN SELECT t.name, d."position", d.stream, d.version FROM @extschema@.topics t
               JOIN @extschema@.dedup d ON d.topic_id = t.topic_id AND d.id = locate.event_id
              WHERE d.scheduled_id IS NULL AND has_column_privilege(@extschema@.caller(), '@extschema@.topic_' || t.name, 'id', 'SELECT')
              ORDER BY t.topic_id
    LOOP
        topic := x.name;
        "position" := x."position";
        IF x.version IS NOT NULL THEN
            EXECUTE format('SELECT e."position" FROM @extschema@.%I e WHERE e.stream = $1 AND e.version = $2', 'topic_' || topic)
                INTO "position" USING x.stream, x.version;
            CONTINUE WHEN "position" IS NULL; -- its leaf is gone
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION @extschema@.locate(uuid) IS
    'Topic and position of an event by its id, without a search of the log: ids that Trunkline made, and ids given to publish() or append() within the dedup_window. No row: unknown, not due yet, or in a topic that one may neither read nor publish to (the right to append alone does not do). An id given to a plain INSERT is not found.';
