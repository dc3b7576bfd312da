CREATE OR REPLACE FUNCTION @extschema@.grant_read(grantee text, topic text DEFAULT 'store') RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@.topic_id_of(topic);
    EXECUTE format('GRANT USAGE ON SCHEMA @extschema@ TO %I', grantee);
    EXECUTE format('GRANT SELECT ON @extschema@.%I TO %I', 'topic_' || topic, grantee);
    EXECUTE format('GRANT SELECT ON SEQUENCE @extschema@.%I TO %I', 'position_' || topic, grantee);
    -- of streams and snapshots those of topics that one may read
    EXECUTE format('GRANT SELECT ON @extschema@.topics, @extschema@.leaves, @extschema@.migrations, @extschema@.installed,
        @extschema@.horizons, @extschema@.identity, @extschema@.streams, @extschema@.snapshots, @extschema@.upcasters,
        @extschema@.link_streams, @extschema@.links, @extschema@.read_models, @extschema@.aggregates TO %I', grantee);
    EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.read, @extschema@.read_stream, @extschema@.read_category, @extschema@.load_stream,
        @extschema@.find, @extschema@.locate, @extschema@.head, @extschema@.horizon, @extschema@.register_horizons, @extschema@.lock_class,
        @extschema@.stream_version, @extschema@.stream_exists, @extschema@.stream_info, @extschema@.list_streams, @extschema@.category, @extschema@.key_id, @extschema@.snapshot_get, @extschema@.read_links,
        @extschema@.read_model_get, @extschema@.position_token, @extschema@.parse_position_token, @extschema@.topic_mark,
        @extschema@.check_read, @extschema@.check_stream, @extschema@.readable, @extschema@.read_limit, @extschema@.sequence_denied, @extschema@.position_before,
        @extschema@.position_since, @extschema@.version_since, @extschema@.upcast_event, @extschema@.function_named, @extschema@.pattern_problem,
        @extschema@.pattern_regex, @extschema@.matches, @extschema@.type_problem, @extschema@.topic_id_of, @extschema@.fail TO %I', grantee);
END $$;
COMMENT ON FUNCTION @extschema@.grant_read(text, text) IS
    'Let a role read a topic: by position, stream, category and id, with its snapshots, links and read models; and nothing else. Names of links and read models are those of all topics. Needs the owner of the schema.';
