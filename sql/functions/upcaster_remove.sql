CREATE OR REPLACE FUNCTION @extschema@.upcaster_remove(type text, schema_version integer) RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM @extschema@.upcasters u WHERE u.type = upcaster_remove.type AND u.schema_version = upcaster_remove.schema_version;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION @extschema@.upcaster_remove(text, integer) IS 'Undo upcaster_add(); false: there was none. Needs the owner of the schema.';
