CREATE OR REPLACE FUNCTION @extschema@.live_start(
        topic text, is_of_streams boolean, stream text DEFAULT NULL, after bigint DEFAULT NULL, tenant text DEFAULT NULL)
    RETURNS TABLE (cursor bigint, horizon bigint)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    newest bigint;
BEGIN
    PERFORM @extschema@.topic_id_of(live_start.topic);
    -- may the caller read it? And before its sequence is locked: in the order of drop_topic()
    EXECUTE format('LOCK TABLE ONLY @extschema@.%I IN ACCESS SHARE MODE', 'topic_' || live_start.topic);
    horizon := @extschema@.horizon(live_start.topic);
    IF is_of_streams AND NOT (SELECT t.streams FROM @extschema@.topics t WHERE t.name = live_start.topic) THEN
        PERFORM @extschema@.fail('0A000', format('topic "%s" has no streams', live_start.topic),
            jsonb_build_object('field', 'topic', 'value', live_start.topic));
    END IF;
    IF stream IS NULL THEN
        cursor := coalesce(live_start.after, horizon);
        PERFORM @extschema@.check_cursor(live_start.topic, cursor);
    ELSE
        newest := @extschema@.stream_version(stream, live_start.topic, tenant);
        cursor := coalesce(live_start.after, newest);
        PERFORM @extschema@.check_version(stream, cursor, newest);
    END IF;
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION @extschema@.live_start(text, boolean, text, bigint, text) IS
    'Internal, for live subscriptions of the client: where one begins that goes on after a position (of a stream: a version) or, with NULL, at the end; and a safe horizon of the topic. TL005 after is not in the log, TL002 unknown topic, 0A000 it should have streams and has none.';
