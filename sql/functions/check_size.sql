CREATE OR REPLACE FUNCTION @extschema@.check_size(topic text, size integer) RETURNS void LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size_limit integer;
BEGIN
    -- 1024 is the least limit a topic can have
    IF size > 1024 THEN
        SELECT t.max_event_bytes INTO size_limit FROM @extschema@.topics t WHERE t.name = topic;
        IF size > size_limit THEN
            PERFORM @extschema@.fail('TL007', format('data of %s bytes is larger than the limit of topic "%s", %s bytes', size, topic, size_limit),
                jsonb_build_object('field', 'data', 'limit', size_limit, 'actual', size),
                'Send less, or raise max_event_bytes with set_topic().');
        END IF;
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.check_size(text, integer) IS 'Internal: TL007 for data of more bytes than the topic takes.';
