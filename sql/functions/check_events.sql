CREATE OR REPLACE FUNCTION @extschema@.check_events(topic text, max_bytes integer, place integer[], streams text[], is_many boolean,
        types text[], data jsonb[], metadata jsonb[], sources text[], keys text[])
    RETURNS void LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bad    record;
    detail text;
    advice text;
BEGIN
    -- what check_event() asks; it is asked only to say what is wrong with the first bad one
    SELECT * INTO bad FROM unnest(types, check_events.data, check_events.metadata, sources, keys)
            WITH ORDINALITY u(type, data, metadata, source, key, n)
     WHERE NOT coalesce(u.type !~~ ALL ('{"", .%, %., %..%, %*%}')
            AND greatest(octet_length(u.type), octet_length(u.source), octet_length(u.key)) <= 255
            AND coalesce(least(u.source, u.key) <> '', true)
            AND coalesce(jsonb_typeof(u.metadata) = 'object' AND pg_column_size(u.metadata) <= 65536, true)
            AND coalesce(pg_column_size(u.data) <= max_bytes, true), false)
     ORDER BY u.n LIMIT 1;
    IF FOUND THEN
        BEGIN
            PERFORM @extschema@.check_event(topic, bad.type, bad.data, bad.key, NULL, bad.source, bad.metadata);
        EXCEPTION WHEN SQLSTATE 'TL005' OR SQLSTATE 'TL007' THEN
            GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, advice = PG_EXCEPTION_HINT;
            PERFORM @extschema@.fail(SQLSTATE, format('event %s of the append: %s', bad.n - 1, SQLERRM),
                detail::jsonb || @extschema@.event_place(bad.n, place, streams, is_many), advice);
        END;
        PERFORM @extschema@.fail('TL005', format('event %s of the append is refused', bad.n - 1),
            '{"field": "events"}'::jsonb || @extschema@.event_place(bad.n, place, streams, is_many));
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.check_events(text, integer, integer[], text[], boolean, text[], jsonb[], jsonb[], text[], text[]) IS
    'Internal: check_event() for the events of an append: TL005, TL007 with the place of the first bad one.';
