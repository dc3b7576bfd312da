CREATE OR REPLACE FUNCTION @extschema@.interval_of(word text) RETURNS interval LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN word::interval;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;
COMMENT ON FUNCTION @extschema@.interval_of(text) IS 'Internal: a text as an interval; NULL: it is none.';
