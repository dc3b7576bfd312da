-- REFERENCES on a column that no key can refer to gives a role nothing but this: the functions that
-- run as owner look for it. Inserting stream and version oneself stays refused.
CREATE OR REPLACE FUNCTION @extschema@.grant_append(grantee text, topic text DEFAULT 'store') RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@.topic_id_of(topic);
    EXECUTE format('GRANT USAGE ON SCHEMA @extschema@ TO %I', grantee);
    EXECUTE format('GRANT REFERENCES (stream) ON @extschema@.%I TO %I', 'topic_' || topic, grantee);
    EXECUTE format('GRANT SELECT ON @extschema@.topics, @extschema@.migrations, @extschema@.installed, @extschema@.streams TO %I', grantee);
    EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.append, @extschema@.append_event, @extschema@.append_rows, @extschema@.append_streams,
        @extschema@.create_aggregate, @extschema@.set_stream, @extschema@.delete_stream, @extschema@.stream_version, @extschema@.stream_exists,
        @extschema@.stream_info, @extschema@.list_streams, @extschema@.category, @extschema@.key_id, @extschema@.check_stream,
        @extschema@.topic_id_of, @extschema@.fail TO %I', grantee);
    -- what stands beside streams; snapshots and commands of other topics are hidden by the policies of the tables
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON @extschema@.snapshots TO %I', grantee);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE ON @extschema@.commands, @extschema@.link_streams, @extschema@.read_models TO %I', grantee);
    EXECUTE format('GRANT SELECT, INSERT ON @extschema@.links TO %I', grantee);
    EXECUTE format('GRANT SELECT ON @extschema@.command_handlers, @extschema@.aggregates TO %I', grantee);
    EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.snapshot_save, @extschema@.snapshot_get, @extschema@.snapshot_delete,
        @extschema@.command_create, @extschema@.command_process, @extschema@.command_process_next, @extschema@.function_named,
        @extschema@.link, @extschema@.find, @extschema@.locate, @extschema@.read_model_put, @extschema@.read_model_get TO %I', grantee);
END $$;
COMMENT ON FUNCTION @extschema@.grant_append(text, text) IS
    'Let a role append to the streams of a topic, save their snapshots, run commands, put read models and link events, and see names and versions of streams, not their events: for those grant_read() or grant_consume(). Versions and positions stay unforgeable. Needs the owner of the schema.';
