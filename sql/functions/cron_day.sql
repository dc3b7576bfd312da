CREATE OR REPLACE FUNCTION @extschema@.cron_day(
        since date, days integer[], months integer[], weekdays integer[], by_either boolean)
    RETURNS date LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    day date := since;
BEGIN
    -- February 29 on a given day of the week may be 40 years away
    WHILE day < since + 15000 LOOP
        IF extract(month FROM day)::integer <> ALL (months) THEN
            day := (date_trunc('month', day::timestamp) + interval '1 month')::date;
        ELSIF (CASE WHEN by_either
                   THEN extract(day FROM day)::integer = ANY (days) OR extract(dow FROM day)::integer = ANY (weekdays)
                   ELSE extract(day FROM day)::integer = ANY (days) AND extract(dow FROM day)::integer = ANY (weekdays) END)
        THEN
            RETURN day;
        ELSE
            day := day + 1;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION @extschema@.cron_day(date, integer[], integer[], integer[], boolean) IS
    'Internal: the first day from a date on that a cron expression allows; NULL: none within 41 years.';
