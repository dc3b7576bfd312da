CREATE OR REPLACE FUNCTION @extschema@.snapshot_save(
        stream text, version bigint, state jsonb, schema_version integer DEFAULT 1, topic text DEFAULT 'store', tenant_id text DEFAULT NULL)
    RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    number integer := @extschema@.topic_id_of(snapshot_save.topic);
    s      record;
BEGIN
    IF snapshot_save.state IS NULL THEN
        PERFORM @extschema@.fail('TL005', 'state is NULL', '{"field": "state"}');
    ELSIF pg_column_size(snapshot_save.state) > 16777216 THEN
        PERFORM @extschema@.fail('TL007', format('state has %s bytes, more than 16777216', pg_column_size(snapshot_save.state)),
            '{"field": "state", "limit": 16777216}');
    ELSIF coalesce(snapshot_save.version < 1, true) THEN
        PERFORM @extschema@.fail('TL005', 'version is not 1 or more', '{"field": "version", "limit": 1}');
    ELSIF coalesce(snapshot_save.schema_version < 1, true) THEN
        PERFORM @extschema@.fail('TL005', 'schema_version is not 1 or more', '{"field": "schema_version", "limit": 1}');
    END IF;
    IF NOT has_column_privilege('@extschema@.topic_' || snapshot_save.topic, 'stream', 'REFERENCES') THEN
        PERFORM @extschema@.fail('42501', format('no right to save snapshots of topic "%s"', snapshot_save.topic),
            jsonb_build_object('field', 'topic', 'value', snapshot_save.topic), 'The owner of the schema gives the right with grant_append().');
    END IF;
    SELECT x.version, x.first_version, x.tenant_id INTO s FROM @extschema@.streams x WHERE x.topic_id = number AND x.stream = snapshot_save.stream;
    IF FOUND AND NOT coalesce(s.tenant_id = snapshot_save.tenant_id, snapshot_save.tenant_id IS NULL) THEN
        PERFORM @extschema@.fail('42501', format('stream "%s" is not of tenant "%s"', snapshot_save.stream, snapshot_save.tenant_id),
            jsonb_build_object('field', 'tenant_id', 'stream', snapshot_save.stream));
    ELSIF coalesce(snapshot_save.version > s.version, true) THEN
        PERFORM @extschema@.fail('TL005', format('version %s is ahead of stream "%s", which is at %s', snapshot_save.version, snapshot_save.stream,
                coalesce(s.version, 0)), jsonb_build_object('field', 'version', 'stream', snapshot_save.stream, 'actual', coalesce(s.version, 0)));
    ELSIF snapshot_save.version < s.first_version THEN
        RETURN false; -- of before it was deleted
    END IF;
    INSERT INTO @extschema@.snapshots AS p (topic_id, stream, schema_version, version, state)
        VALUES (number, snapshot_save.stream, snapshot_save.schema_version, snapshot_save.version, snapshot_save.state)
        ON CONFLICT (topic_id, stream, schema_version)
        DO UPDATE SET version = excluded.version, state = excluded.state, created_at = clock_timestamp() WHERE p.version <= excluded.version;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION @extschema@.snapshot_save(text, bigint, jsonb, integer, text, text) IS
    'Keep the state of a stream after a version, one for each schema version of the state. false: there is a newer one already, or the stream was deleted since. state: JSON of up to 16 MiB. redact() deletes the snapshots of its stream; a state that was loaded before that is not to be saved after it. TL005: state NULL, or version ahead of the stream (DETAIL: actual); TL007 too large; 42501 no right to append, or not of this tenant.';
