CREATE OR REPLACE FUNCTION @extschema@.head(topic text DEFAULT 'store') RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN @extschema@.horizon(topic);
END $$;
COMMENT ON FUNCTION @extschema@.head(text) IS 'The end of a topic as readers see it: its safe horizon, see horizon().';
