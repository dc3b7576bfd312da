CREATE OR REPLACE FUNCTION @extschema@.set_stream(stream text, max_count bigint DEFAULT NULL, max_age interval DEFAULT NULL, metadata jsonb DEFAULT NULL,
        expected_version bigint DEFAULT NULL, topic text DEFAULT 'store', tenant_id text DEFAULT NULL)
    RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    t record := @extschema@.append_topic(set_stream.topic);
    l record;
BEGIN
    PERFORM @extschema@.check_stream(set_stream.stream);
    PERFORM @extschema@.check_append(1, set_stream.expected_version, set_stream.tenant_id);
    IF set_stream.max_count < 1 THEN
        PERFORM @extschema@.fail('TL005', 'max_count is not positive', '{"field": "max_count"}');
    ELSIF set_stream.max_age NOT BETWEEN interval '1 us' AND interval '1000 years' THEN
        PERFORM @extschema@.fail('TL005', 'max_age is not positive and at most 1000 years', '{"field": "max_age"}');
    ELSIF jsonb_typeof(set_stream.metadata) <> 'object' THEN
        PERFORM @extschema@.fail('TL005', 'metadata is not a JSON object', '{"field": "metadata"}');
    ELSIF pg_column_size(set_stream.metadata) > 65536 THEN
        PERFORM @extschema@.fail('TL007', format('metadata of %s bytes is larger than the limit of 65536 bytes', pg_column_size(set_stream.metadata)),
            jsonb_build_object('field', 'metadata', 'limit', 65536, 'actual', pg_column_size(set_stream.metadata)));
    END IF;
    l := @extschema@.lock_stream(t.topic_id, set_stream.stream, set_stream.expected_version, 1, set_stream.tenant_id);
    IF l.reason IS NOT NULL THEN
        PERFORM @extschema@.conflict(set_stream.stream, set_stream.expected_version, l.base, l.reason);
    END IF;
    UPDATE @extschema@.streams s
       SET version = l.base, tenant_id = l.owner, max_count = set_stream.max_count, max_age = set_stream.max_age, metadata = set_stream.metadata,
           updated_at = clock_timestamp()
     WHERE s.topic_id = t.topic_id AND s.stream = set_stream.stream;
    RETURN l.base;
END $$;
COMMENT ON FUNCTION @extschema@.set_stream(text, bigint, interval, jsonb, bigint, text, text) IS
    'Settings of a stream, all of them: max_count and max_age limit what reads of the stream give (the log keeps the rest), metadata is a JSON object of yours; NULL: none. A stream that is not there is made at version 0. Returns its version, which does not change. expected_version and tenant_id as in append(). TL001 the stream is not as expected, TL005 names the field.';
