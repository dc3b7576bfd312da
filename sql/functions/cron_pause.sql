CREATE OR REPLACE FUNCTION @extschema@.cron_pause(cron text) RETURNS bigint LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    words   text := regexp_replace(cron, '^[[:space:]]*every[[:space:]]+', '', 'i');
    seconds numeric;
BEGIN
    BEGIN
        -- months have no length
        IF words ~ '^[0-9]' AND extract(year FROM words::interval) = 0 AND extract(month FROM words::interval) = 0 THEN
            seconds := extract(epoch FROM words::interval);
        END IF;
    EXCEPTION WHEN data_exception THEN
        NULL;
    END;
    IF coalesce(seconds NOT BETWEEN 1 AND 31536000 OR seconds <> trunc(seconds), true) THEN
        PERFORM @extschema@.fail('TL005', format('cron: "%s" is not whole seconds from 1 s to 365 days', left(words, 40)),
            jsonb_build_object('field', 'cron', 'part', 'interval', 'column', length(cron) - length(words) + 1),
            'Such as every 10s, every 15 min, every 2 hours.');
    END IF;
    RETURN seconds;
END $$;
COMMENT ON FUNCTION @extschema@.cron_pause(text) IS
    'Internal: seconds of "every INTERVAL". TL005.';
