CREATE OR REPLACE FUNCTION @extschema@.cron_field(
        part text, field text, place integer, low integer, high integer, names text[] DEFAULT '{}')
    RETURNS integer[] LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    item    text;
    m       text[];
    first   integer;
    last    integer;
    step    integer;
    chosen  integer[] := '{}';
    problem text;
BEGIN
    FOREACH item IN ARRAY string_to_array(field, ',') LOOP
        m := regexp_match(lower(item), '^([*]|[0-9]{1,4}|[a-z]+)(?:-([0-9]{1,4}|[a-z]+))?(?:/([0-9]{1,4}))?$');
        -- a name is its place in the list
        first := CASE WHEN m[1] = '*' THEN low WHEN m[1] ~ '^[0-9]' THEN m[1]::integer
                      ELSE array_position(names, m[1]) + low - 1 END;
        last := CASE WHEN m[2] ~ '^[0-9]' THEN m[2]::integer
                     WHEN m[2] = 'sun' AND first > 0 THEN 7 -- fri-sun
                     WHEN m[2] IS NOT NULL THEN array_position(names, m[2]) + low - 1
                     WHEN m[1] = '*' OR m[3] IS NOT NULL THEN high
                     ELSE first END;
        step := coalesce(m[3]::integer, 1);
        problem := CASE
            WHEN m IS NULL OR m[1] = '*' AND m[2] IS NOT NULL THEN 'is not of the form *, N, N-N, */N, N-N/N'
            WHEN first IS NULL OR last IS NULL THEN 'has an unknown name'
            WHEN first NOT BETWEEN low AND high OR last NOT BETWEEN low AND high THEN format('is not within %s to %s', low, high)
            WHEN first > last THEN 'is a range that ends before it begins'
            WHEN step NOT BETWEEN 1 AND high - low + 1 THEN format('has a step that is not 1 to %s', high - low + 1) END;
        IF problem IS NOT NULL THEN
            PERFORM @extschema@.fail('TL005', format('cron: %s "%s" in column %s %s', part, left(item, 40), place, problem),
                jsonb_build_object('field', 'cron', 'part', part, 'column', place));
        END IF;
        chosen := chosen || ARRAY(SELECT generate_series(first, last, step));
        place := place + length(item) + 1;
    END LOOP;
    IF part = 'day of week' THEN -- 7 is Sunday too
        chosen := array_replace(chosen, 7, 0);
    END IF;
    RETURN ARRAY(SELECT DISTINCT n FROM unnest(chosen) n ORDER BY n);
END $$;
COMMENT ON FUNCTION @extschema@.cron_field(text, text, integer, integer, integer, text[]) IS
    'Internal: the numbers that a field of a cron expression stands for, ascending. place: its column in the expression. TL005 names part and column.';
