CREATE OR REPLACE FUNCTION @extschema@.next_fire(cron text, timezone text DEFAULT 'UTC', after timestamptz DEFAULT clock_timestamp())
    RETURNS timestamptz LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pause  bigint;
    c      record;
    moment timestamptz;
    begin_local timestamp;
    day    date;
    h      integer;
    m      integer;
BEGIN
    IF cron IS NULL OR length(cron) > 1000 THEN
        PERFORM @extschema@.fail('TL005', 'cron is NULL or longer than 1000 characters', '{"field": "cron", "limit": 1000}');
    ELSIF after IS NULL OR NOT isfinite(after) THEN
        PERFORM @extschema@.fail('TL005', 'after is not a time', '{"field": "after"}');
    END IF;
    BEGIN
        begin_local := date_trunc('minute', after AT TIME ZONE timezone);
    EXCEPTION WHEN data_exception THEN
        NULL;
    END;
    IF begin_local IS NULL THEN
        PERFORM @extschema@.fail('TL005', format('time zone "%s" is unknown', left(timezone, 60)), '{"field": "timezone"}');
    END IF;
    IF cron ~* '^[[:space:]]*every[[:space:]]' THEN
        pause := @extschema@.cron_pause(cron);
        RETURN to_timestamp((floor(extract(epoch FROM after) / pause) + 1) * pause);
    END IF;
    c := @extschema@.cron_parse(cron);
    IF cardinality(c.hours) = 24 THEN
        -- every hour means real hours: those that the clock repeats or passes over are not told apart
        moment := date_trunc('minute', after) + interval '1 min';
        day := @extschema@.cron_day((moment AT TIME ZONE timezone)::date, c.days, c.months, c.weekdays, c.by_either);
        WHILE day IS NOT NULL LOOP
            IF day <> (moment AT TIME ZONE timezone)::date THEN
                -- at least a step: a midnight may be over that clocks were put back to
                moment := greatest(moment + interval '1 min', @extschema@.local_moment(day::timestamp, timezone));
            ELSIF extract(minute FROM moment AT TIME ZONE timezone)::integer = ANY (c.minutes) THEN
                RETURN moment;
            ELSE
                moment := moment + interval '1 min';
            END IF;
            day := @extschema@.cron_day((moment AT TIME ZONE timezone)::date, c.days, c.months, c.weekdays, c.by_either);
        END LOOP;
    ELSE
        day := @extschema@.cron_day(begin_local::date, c.days, c.months, c.weekdays, c.by_either);
        -- later local times never come earlier (see local_moment), so the first that fits is it
        WHILE day IS NOT NULL LOOP
            FOREACH h IN ARRAY c.hours LOOP
                FOREACH m IN ARRAY c.minutes LOOP
                    CONTINUE WHEN day + make_time(h, m, 0) < begin_local;
                    moment := @extschema@.local_moment(day + make_time(h, m, 0), timezone);
                    IF moment > after THEN
                        RETURN moment;
                    END IF;
                END LOOP;
            END LOOP;
            day := @extschema@.cron_day(day + 1, c.days, c.months, c.weekdays, c.by_either);
        END LOOP;
    END IF;
    PERFORM @extschema@.fail('TL005', 'cron: there is no such day within 41 years', jsonb_build_object('field', 'cron', 'part', 'day of month', 'column', c.days_place));
END $$;
COMMENT ON FUNCTION @extschema@.next_fire(text, text, timestamptz) IS
    'The first time after another at which a schedule fires. cron: minute, hour, day of month, month, day of week, each *, N, N-N, steps (*/N, N-N/N), lists, names (jan, mon; 0 and 7 are Sunday); when both day fields are restricted either is enough; or @hourly, @daily, @weekly, @monthly, @yearly; or every INTERVAL (1 s to 365 days, such as every 10s), in multiples since 1970 UTC. timezone: as in pg_timezone_names. A local time that clocks pass over fires when they are put forward, one that occurs twice fires the first time; an expression for all hours goes by real time instead. TL005 names part and column.';
