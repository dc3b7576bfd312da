CREATE OR REPLACE FUNCTION @extschema@.create_topic(
        name text, durability text DEFAULT 'logged', rotation text DEFAULT 'none', retention interval DEFAULT NULL,
        max_event_bytes integer DEFAULT 1048576, dedup_window interval DEFAULT interval '1 day',
        streams boolean DEFAULT false)
    RETURNS integer LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    number   integer;
    target   text := 'topic_' || create_topic.name;
    consumer text;
    position_sequence text := 'position_' || create_topic.name;
BEGIN
    PERFORM @extschema@.check_topic(create_topic.name, create_topic.durability, create_topic.rotation,
        create_topic.retention, create_topic.max_event_bytes, create_topic.dedup_window);
    IF create_topic.streams IS NULL THEN
        PERFORM @extschema@.fail('TL005', 'streams is NULL', '{"field": "streams"}');
    ELSIF create_topic.streams AND create_topic.durability <> 'logged' THEN
        PERFORM @extschema@.fail('0A000', 'streams need a logged topic', '{"field": "streams"}');
    END IF;
    LOCK TABLE @extschema@.topics IN SHARE ROW EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM @extschema@.topics t WHERE t.name = create_topic.name) THEN
        PERFORM @extschema@.fail('TL001', format('topic "%s" exists', create_topic.name),
            jsonb_build_object('field', 'name', 'value', create_topic.name), 'Change it with set_topic().');
    END IF;
    IF to_regclass(format('@extschema@.%I', target)) IS NOT NULL THEN
        PERFORM @extschema@.fail('TL005', format('topic name "%s" is reserved', create_topic.name), '{"field": "name"}');
    END IF;
    -- the least free number: one that was dropped may be used again, its events are gone
    SELECT min(n) INTO number FROM generate_series(1, 4095) n
     WHERE NOT EXISTS (SELECT FROM @extschema@.topics t WHERE t.topic_id = n);
    IF number IS NULL THEN
        PERFORM @extschema@.fail('TL007', 'there are 4095 topics already', '{"field": "name", "limit": 4095}');
    END IF;
    INSERT INTO @extschema@.topics (topic_id, name, durability, rotation, retention, max_event_bytes, dedup_window, streams)
        VALUES (number, create_topic.name, create_topic.durability, create_topic.rotation, create_topic.retention,
            create_topic.max_event_bytes, create_topic.dedup_window, create_topic.streams);

    EXECUTE format('CREATE TABLE @extschema@.%I (LIKE @extschema@.events INCLUDING CONSTRAINTS)
            PARTITION BY RANGE ("position")', target);
    -- 0 is burnt: on a sequence never called, the first position in flight would count as safe
    EXECUTE format('CREATE SEQUENCE @extschema@.%I AS bigint MINVALUE 0 START 0 CACHE 1 OWNED BY @extschema@.%I."position"',
        position_sequence, target);
    PERFORM nextval(('@extschema@.' || position_sequence)::regclass);
    -- who claims reads the register of all topics: as grant_consume() did for those that there were
    FOR consumer IN
        SELECT DISTINCT a.grantee::regrole::text FROM pg_class c, aclexplode(c.relacl) a
         WHERE c.oid = '@extschema@.cursors'::regclass AND a.privilege_type = 'UPDATE' AND a.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('GRANT SELECT ON SEQUENCE @extschema@.%I TO %s', position_sequence, consumer);
    END LOOP;
    -- The long way to say NULL: already of the domain's type and folded by the planner, while the NULL of an
    -- absent column would be checked, which costs as much as a value.
    EXECUTE format('ALTER TABLE @extschema@.%1$I
            ALTER topic_id SET DEFAULT %2$s,
            ALTER "position" SET DEFAULT @extschema@.next_position(%3$L::regclass),
            ALTER id SET DEFAULT @extschema@.next_id(%2$s, %3$L::regclass),
            ALTER source SET DEFAULT (''{}''::@extschema@.event_name[])[1],
            ALTER stream SET DEFAULT (''{}''::@extschema@.event_name[])[1],
            ALTER key SET DEFAULT (''{}''::@extschema@.event_name[])[1],
            ALTER tenant_id SET DEFAULT (''{}''::@extschema@.event_name[])[1],
            ALTER metadata SET DEFAULT (''{}''::@extschema@.event_metadata[])[1],
            ALTER created_at SET DEFAULT clock_timestamp()',
        target, number, '@extschema@.' || position_sequence);
    BEGIN
        EXECUTE format('ALTER TABLE @extschema@.%I ALTER data SET COMPRESSION lz4', target);
    EXCEPTION WHEN feature_not_supported OR invalid_parameter_value THEN
        NULL; -- a server built without lz4 compresses with pglz
    END;
    EXECUTE format('COMMENT ON TABLE @extschema@.%I IS %L', target, format(
        'Topic %s: INSERT or COPY (type, data, and as wanted id, source, key, tenant_id, metadata, expires_at).', create_topic.name));
    EXECUTE format('COMMENT ON SEQUENCE @extschema@.%I IS %L', position_sequence,
        format('Positions of topic %s; never call setval.', create_topic.name));
    EXECUTE format('CREATE TRIGGER guard BEFORE UPDATE OR DELETE OR TRUNCATE ON @extschema@.%I FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.guard()', target);
    EXECUTE format('ALTER TABLE @extschema@.events ATTACH PARTITION @extschema@.%I FOR VALUES IN (%s)', target, number);
    PERFORM @extschema@.limit_data();
    FOR leaf IN 0 .. 2 LOOP
        PERFORM @extschema@.add_leaf(create_topic.name, leaf);
    END LOOP;
    IF create_topic.durability = 'unlogged' THEN
        INSERT INTO @extschema@.unlogged_marks (topic_id) VALUES (number);
    END IF;
    RETURN number;
END $$;
COMMENT ON FUNCTION @extschema@.create_topic(text, text, text, interval, integer, interval, boolean) IS
    'Make a topic. name: lower-case identifier of at most 40 bytes. durability: logged or unlogged (empty after a crash). rotation: none, hour, day, month. retention: leaves whose newest event is older are dropped, NULL keeps for ever. max_event_bytes: 1024 to 268435456, see set_topic(). dedup_window: NULL for ever. streams: append() works there (logged only, else 0A000), for the price of three more indexes; give it dedup_window NULL, for then a repeated append is known for ever. Durability and streams are fixed. Returns its number. Needs the owner of the schema. TL001 exists, TL005 bad argument.';
