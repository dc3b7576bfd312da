CREATE OR REPLACE FUNCTION @extschema@.check_lease(lease interval) RETURNS void LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(lease NOT BETWEEN interval '1 ms' AND interval '1 day', true) THEN
        PERFORM @extschema@.fail('TL005', 'lease is not 1 ms to 1 day', '{"field": "lease"}');
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.check_lease(interval) IS 'Internal: TL005 unless 1 ms to 1 day.';
