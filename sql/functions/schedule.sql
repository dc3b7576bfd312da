CREATE OR REPLACE FUNCTION @extschema@.schedule(
        name text, cron text, type text, data jsonb DEFAULT NULL, topic text DEFAULT 'bus', timezone text DEFAULT 'UTC',
        key text DEFAULT NULL, tenant_id text DEFAULT NULL, source text DEFAULT NULL, metadata jsonb DEFAULT NULL,
        missed text DEFAULT 'once', max_missed integer DEFAULT 100)
    RETURNS timestamptz LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    topic_number integer := @extschema@.topic_id_of(topic);
    first        timestamptz;
BEGIN
    IF coalesce(octet_length(schedule.name) NOT BETWEEN 1 AND 255, true) THEN
        PERFORM @extschema@.fail('TL005', 'name is not 1 to 255 bytes', '{"field": "name", "limit": 255}');
    ELSIF coalesce(schedule.missed NOT IN ('skip', 'once', 'all'), true) THEN
        PERFORM @extschema@.fail('TL005', 'missed is not skip, once or all', '{"field": "missed"}');
    ELSIF coalesce(schedule.max_missed NOT BETWEEN 1 AND 1000, true) THEN
        PERFORM @extschema@.fail('TL005', 'max_missed is not 1 to 1000', '{"field": "max_missed", "limit": 1000}');
    -- AT TIME ZONE takes more, such as "XYZ3" for three hours west of Greenwich
    ELSIF NOT EXISTS (SELECT FROM pg_timezone_names z WHERE z.name = schedule.timezone) THEN
        PERFORM @extschema@.fail('TL005', format('time zone "%s" is unknown', left(schedule.timezone, 60)), '{"field": "timezone"}',
            'A name as in pg_timezone_names, such as Europe/Berlin.');
    END IF;
    PERFORM @extschema@.check_event(schedule.topic, schedule.type, schedule.data, schedule.key, schedule.tenant_id, schedule.source, schedule.metadata);
    PERFORM @extschema@.check_event(schedule.topic, schedule.type, NULL, NULL, NULL, NULL,
        @extschema@.slot_metadata(schedule.metadata, schedule.name, clock_timestamp()));
    first := @extschema@.next_fire(schedule.cron, schedule.timezone);
    INSERT INTO @extschema@.schedules AS x (name, cron, timezone, topic_id, type, data, key, tenant_id, source, metadata, missed,
            max_missed, next_at, due_at)
        VALUES (schedule.name, schedule.cron, schedule.timezone, topic_number, schedule.type, coalesce(schedule.data, 'null'),
            schedule.key, schedule.tenant_id, schedule.source, schedule.metadata, schedule.missed, schedule.max_missed, first, first)
        ON CONFLICT (name) DO UPDATE
            SET cron = excluded.cron, timezone = excluded.timezone, topic_id = excluded.topic_id, type = excluded.type,
                data = excluded.data, key = excluded.key, tenant_id = excluded.tenant_id, source = excluded.source,
                metadata = excluded.metadata, missed = excluded.missed, max_missed = excluded.max_missed,
                -- slots that are due already stay so, unless the times changed
                next_at = CASE WHEN (x.cron, x.timezone) = (excluded.cron, excluded.timezone) THEN x.next_at ELSE excluded.next_at END,
                due_at = CASE WHEN (x.cron, x.timezone) = (excluded.cron, excluded.timezone) THEN x.next_at ELSE excluded.next_at END,
                error = NULL, updated_at = clock_timestamp()
        RETURNING x.next_at INTO first;
    PERFORM @extschema@.tell_due(first);
    RETURN first;
END $$;
COMMENT ON FUNCTION @extschema@.schedule(text, text, text, jsonb, text, text, text, text, text, jsonb, text, integer) IS
    'Make or change a recurring schedule; the same call twice is one schedule, and one that is paused stays so. cron, timezone: see next_fire(). The others describe the event as in publish(); schedule and slot are added to its metadata. missed: what becomes of slots that nobody fired in time: skip (a minute late at most), once (the last of them, the default), all (each, the last max_missed of them, 1 to 1000). Returns when it fires next. Needs the owner of the schema. TL005 names the field, for cron with part and column; TL002 unknown topic.';
