-- CREATE TABLE alone, then ATTACH: SHARE UPDATE EXCLUSIVE on the topic, so publishers go on.
CREATE OR REPLACE FUNCTION @extschema@.add_leaf(topic text, leaf bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t      @extschema@.topics;
    name   text := format('leaf_%s_%s', topic, leaf);
    target text := 'topic_' || topic;
BEGIN
    SELECT * INTO STRICT t FROM @extschema@.topics WHERE topics.name = add_leaf.topic;
    IF EXISTS (SELECT FROM @extschema@.leaves l WHERE l.topic_id = t.topic_id AND l.leaf = add_leaf.leaf) THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE %s TABLE @extschema@.%I (LIKE @extschema@.%I INCLUDING CONSTRAINTS INCLUDING COMPRESSION INCLUDING STORAGE, CONSTRAINT %I PRIMARY KEY ("position", topic_id))',
        CASE t.durability WHEN 'unlogged' THEN 'UNLOGGED' ELSE '' END, name, target, name || '_pkey');
    IF t.streams THEN
        EXECUTE format('CREATE UNIQUE INDEX %I ON @extschema@.%I (stream, version) WHERE stream IS NOT NULL', name || '_stream', name);
        EXECUTE format('CREATE INDEX %I ON @extschema@.%I (split_part(stream, ''-'', 1), "position") WHERE stream IS NOT NULL', name || '_category', name);
        EXECUTE format('CREATE INDEX %I ON @extschema@.%I ((metadata ->> ''correlation_id''), "position") WHERE metadata ->> ''correlation_id'' IS NOT NULL',
            name || '_correlation', name);
        EXECUTE format('COMMENT ON INDEX @extschema@.%I IS %L', name || '_stream', 'Events of a stream; (stream, version) is unique.');
        EXECUTE format('COMMENT ON INDEX @extschema@.%I IS %L', name || '_category', 'Events of a category, in order.');
        EXECUTE format('COMMENT ON INDEX @extschema@.%I IS %L', name || '_correlation', 'Events with a correlation_id, in order.');
    END IF;
    -- insert-only: vacuum is needed to freeze and for the visibility map, not for dead rows
    EXECUTE format('CREATE TRIGGER guard BEFORE UPDATE OR DELETE OR TRUNCATE ON @extschema@.%I FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.guard()', name);
    EXECUTE format('COMMENT ON TABLE @extschema@.%I IS %L', name, format('Leaf %s of topic %s: positions [%s, %s).',
        leaf, topic, leaf << 30, (leaf + 1) << 30));
    EXECUTE format('ALTER TABLE @extschema@.%I ATTACH PARTITION @extschema@.%I FOR VALUES FROM (%s) TO (%s)',
        target, name, leaf << 30, (leaf + 1) << 30);
    INSERT INTO @extschema@.leaves (topic_id, leaf) VALUES (t.topic_id, leaf);
    RETURN true;
END $$;
COMMENT ON FUNCTION @extschema@.add_leaf(text, bigint) IS
    'Internal: make leaf n of a topic, positions [n * 2^30, (n + 1) * 2^30), without stopping publishers; false when it is there.';
