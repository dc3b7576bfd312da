CREATE OR REPLACE FUNCTION @extschema@.redact_topic(topic text, reason text) RETURNS integer
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    number integer := @extschema@.topic_id_of(topic);
BEGIN
    IF NOT (has_table_privilege(@extschema@.caller(), format('@extschema@.%I', 'topic_' || topic), 'SELECT')
        AND has_function_privilege(@extschema@.caller(), '@extschema@.redact_at(text, bigint, text, boolean)', 'EXECUTE'))
    THEN
        PERFORM @extschema@.fail('42501', format('role "%s" may not redact events of topic "%s"', @extschema@.caller(), topic),
            jsonb_build_object('field', 'topic', 'value', topic), 'The owner of the schema gives the right with grant_operate().');
    ELSIF coalesce(octet_length(reason) NOT BETWEEN 1 AND 1000, true) THEN
        PERFORM @extschema@.fail('TL005', 'reason is not 1 to 1000 bytes', '{"field": "reason", "limit": 1000}');
    END IF;
    RETURN number;
END $$;
COMMENT ON FUNCTION @extschema@.redact_topic(text, text) IS
    'Internal: number of a topic whose events the role of the session may redact for a reason: TL002, 42501, TL005.';
