-- A hint and no delivery: whatever cannot be sent is left out, and nothing here fails.
CREATE OR REPLACE FUNCTION @extschema@.emit_channels(event jsonb) RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    type    text := event ->> 'type';
    stream  text := event ->> 'stream';
    name    text;
    payload text;
BEGIN
    -- as bell_ring() does: a full queue would fail the commit, and who prepares a transaction may not notify
    IF coalesce(current_setting('trunkline.ring', true), '') = 'off' OR pg_notification_queue_usage() >= 0.5 THEN
        RETURN;
    END IF;
    -- the limit is 8000 bytes with the end; names of 255 bytes are far below it, however they are escaped
    payload := jsonb_build_object('version', coalesce((event ->> 'version')::bigint, (event ->> 'position')::bigint),
        'aggregate_id', stream, 'event_type', type, 'id', event ->> 'id', 'position', (event ->> 'position')::bigint)::text;
    FOREACH name IN ARRAY ARRAY['events', 'events_global', 'events:' || type, 'events:' || split_part(type, '.', 1), 'stream_' || stream] LOOP
        IF name IS NOT NULL AND octet_length(payload) < 8000 THEN
            PERFORM pg_notify(@extschema@.raw_channel(name), payload);
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION @extschema@.emit_channels(jsonb) IS
    'Notify plain LISTEN clients of an event: channels events, events_global, events:<type>, events:<category> (first segment of the type) and stream_<stream>, long names by raw_channel(); payload {"version", "aggregate_id", "event_type", "id", "position"}, version of an event without stream: its position. Never fails: nothing is sent while half of the notification queue is used, or with trunkline.ring off. Called by the subscriptions that raw_channels() makes.';
