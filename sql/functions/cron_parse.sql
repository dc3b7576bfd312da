CREATE OR REPLACE FUNCTION @extschema@.cron_parse(cron text,
        OUT minutes integer[], OUT hours integer[], OUT days integer[], OUT months integer[], OUT weekdays integer[],
        OUT by_either boolean, OUT days_place integer)
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    expression text := CASE lower(btrim(cron))
        WHEN '@yearly' THEN '0 0 1 1 *' WHEN '@annually' THEN '0 0 1 1 *' WHEN '@monthly' THEN '0 0 1 * *'
        WHEN '@weekly' THEN '0 0 * * 0' WHEN '@daily' THEN '0 0 * * *' WHEN '@midnight' THEN '0 0 * * *'
        WHEN '@hourly' THEN '0 * * * *' ELSE cron END;
    rest   text := expression;
    fields text[] := '{}';
    places integer[] := '{}';
    word   text;
BEGIN
    LOOP
        rest := ltrim(rest, E' \t');
        EXIT WHEN rest = '';
        word := substring(rest FROM E'^[^ \t]+');
        fields := fields || word;
        places := places || length(expression) - length(rest) + 1;
        rest := substr(rest, length(word) + 1);
    END LOOP;
    IF cardinality(fields) <> 5 THEN
        PERFORM @extschema@.fail('TL005', format('cron: %s fields instead of 5', cardinality(fields)),
            jsonb_build_object('field', 'cron', 'column', coalesce(places[6], length(expression) + 1)),
            'Minute, hour, day of month, month, day of week; or @hourly, @daily, @weekly, @monthly, @yearly; or every 10s.');
    END IF;
    minutes := @extschema@.cron_field('minute', fields[1], places[1], 0, 59);
    hours := @extschema@.cron_field('hour', fields[2], places[2], 0, 23);
    days := @extschema@.cron_field('day of month', fields[3], places[3], 1, 31);
    months := @extschema@.cron_field('month', fields[4], places[4], 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}');
    weekdays := @extschema@.cron_field('day of week', fields[5], places[5], 0, 7, '{sun,mon,tue,wed,thu,fri,sat}');
    days_place := places[3];
    -- the rule of Vixie cron: two restricted fields, and either is enough
    by_either := fields[3] NOT LIKE '*%' AND fields[5] NOT LIKE '*%';
END $$;
COMMENT ON FUNCTION @extschema@.cron_parse(text) IS
    'Internal: a cron expression as sets of numbers. by_either: a day matches if its day of month or its day of week does. days_place: column of the day of month. TL005 names the column.';
