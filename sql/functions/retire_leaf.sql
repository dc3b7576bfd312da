-- Retention. DETACH and DROP lock the topic against publishers until the end of the transaction, so
-- maintain() does this last and once.
CREATE OR REPLACE FUNCTION @extschema@.retire_leaf(t @extschema@.topics) RETURNS TABLE (action text, detail text)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    h      bigint := @extschema@.horizon(t.name);
    oldest bigint;
    name   text;
    newest timestamptz;
    low    record;
BEGIN
    SELECT min(l.leaf) INTO oldest FROM @extschema@.leaves l WHERE l.topic_id = t.topic_id;
    IF t.retention IS NULL OR (oldest < h >> 30) IS NOT TRUE THEN
        RETURN;
    END IF;
    name := format('leaf_%s_%s', t.name, oldest);
    EXECUTE format('SELECT e.created_at FROM @extschema@.%I e ORDER BY e."position" DESC LIMIT 1', name) INTO newest;
    IF newest >= clock_timestamp() - t.retention THEN
        RETURN;
    END IF;
    SELECT * INTO low FROM @extschema@.low_water(t.topic_id);
    IF low.low < ((oldest + 1) << 30) - 1 AND newest IS NOT NULL THEN
        RETURN QUERY SELECT 'held', format('leaf %s is past retention, subscription "%s" still needs position %s', oldest, low.held_by, low.low + 1);
        RETURN;
    END IF;
    EXECUTE format('ALTER TABLE @extschema@.%I DETACH PARTITION @extschema@.%I', 'topic_' || t.name, name);
    EXECUTE format('DROP TABLE @extschema@.%I', name);
    DELETE FROM @extschema@.leaves l WHERE l.topic_id = t.topic_id AND l.leaf = oldest;
    RETURN QUERY SELECT 'dropped', format('leaf %s, newest event of %s', oldest, newest);
END $$;
COMMENT ON FUNCTION @extschema@.retire_leaf(@extschema@.topics) IS
    'Internal: drop the oldest leaf of a topic when all of it is past retention and below the low-water mark of every subscription.';
