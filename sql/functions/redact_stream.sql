CREATE OR REPLACE FUNCTION @extschema@.redact_stream(topic text, topic_id integer, stream text, upto bigint, audit_id bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    positions bigint[];
    last      bigint := 0;
BEGIN
    WHILE last < upto LOOP
        EXECUTE format('SELECT array_agg(x."position") FROM (SELECT e."position" FROM @extschema@.%I e
             WHERE e.stream = $1 AND e.version > $2 AND e.version <= $3) x', 'topic_' || topic)
            INTO positions USING stream, last, least(last + 1000, upto);
        PERFORM @extschema@.redact_rows(topic, redact_stream.topic_id, positions, redact_stream.audit_id, false);
        last := last + 1000;
    END LOOP;
    PERFORM @extschema@.redact_snapshots(redact_stream.topic_id, ARRAY[stream]);
    PERFORM @extschema@.redact_commands(redact_stream.topic_id, stream, NULL, redact_stream.audit_id, false);
END $$;
COMMENT ON FUNCTION @extschema@.redact_stream(text, integer, text, bigint, bigint) IS
    'Internal: take the payload from all events of a stream, a thousand at a time.';
