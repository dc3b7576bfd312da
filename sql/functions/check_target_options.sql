CREATE OR REPLACE FUNCTION @extschema@.check_target_options(target text, options jsonb) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kind text := CASE WHEN target ~ '^https?://' THEN 'web' WHEN target ~ '^exec:' THEN 'exec' WHEN target ~ '^sql:' THEN 'sql' ELSE 'none' END;
    o    record;
    problem text;
BEGIN
    FOR o IN SELECT j.key, j.value, j.value #>> '{}' AS word, jsonb_typeof(j.value) AS form FROM jsonb_each(options) j ORDER BY 1 LOOP
        problem := CASE
            WHEN o.key = 'concurrency' AND kind IN ('web', 'exec') THEN
                CASE WHEN o.form = 'number' AND o.word ~ '^[0-9]{1,4}$' AND o.word::integer BETWEEN 1 AND 1000 THEN NULL ELSE 'is not 1 to 1000' END
            WHEN kind <> 'web' THEN 'is no option of this target'
            WHEN o.key = 'headers' THEN @extschema@.headers_problem(o.value)
            WHEN o.key = 'format' THEN
                CASE WHEN o.form = 'string' AND o.word IN ('plain', 'cloudevents', 'cloudevents-binary') THEN NULL ELSE 'is not plain, cloudevents or cloudevents-binary' END
            WHEN o.key = 'log' THEN
                CASE WHEN o.form = 'string' AND o.word IN ('all', 'failures', 'none') THEN NULL ELSE 'is not all, failures or none' END
            WHEN o.key = 'events' THEN CASE WHEN o.form = 'boolean' THEN NULL ELSE 'is not true or false' END
            WHEN o.key = 'breaker_failures' THEN
                CASE WHEN o.form = 'number' AND o.word ~ '^[0-9]{1,6}$' THEN NULL ELSE 'is not 0 to 999999' END
            WHEN o.key IN ('breaker_pause', 'breaker_cap') THEN
                CASE WHEN o.form = 'string' AND coalesce(@extschema@.interval_of(o.word) BETWEEN interval '1 ms' AND interval '7 days', false) THEN NULL ELSE 'is not a time of 1 ms to 7 days' END
            WHEN o.key = 'disable_after' THEN
                CASE WHEN o.form = 'string' AND (o.word = 'never' OR coalesce(@extschema@.interval_of(o.word) BETWEEN interval '0' AND interval '1 year', false)) THEN NULL ELSE 'is not never or a time of 0 to 1 year' END
            ELSE 'is no option of this target' END;
        IF problem IS NOT NULL THEN
            PERFORM @extschema@.fail('TL005', format('target_options.%s %s', left(o.key, 100), problem),
                jsonb_build_object('field', 'target_options', 'option', left(o.key, 100)));
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION @extschema@.check_target_options(text, jsonb) IS
    'Internal: TL005 names the first of target_options that the target does not have or whose value is wrong.';
