-- Since PostgreSQL 18 pg_sequence_last_value() is NULL, and no error, for who may not read the sequence.
-- NULL must not be taken for "nothing to read": that would be silence for ever.
CREATE OR REPLACE FUNCTION @extschema@.sequence_denied(topic_sequence regclass) RETURNS bigint LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@.fail('42501', format('permission denied for sequence %s', topic_sequence::text), '{}',
        'Ask the owner of the schema for grant_read() or grant_consume().');
    RETURN NULL;
END $$;
COMMENT ON FUNCTION @extschema@.sequence_denied(regclass) IS
    'Internal: what earlier versions of PostgreSQL raise for a last value that one may not see. Never returns.';
