CREATE OR REPLACE FUNCTION @extschema@.slot_condition(slot integer, slots integer) RETURNS text LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN slots > 1 THEN format('AND @extschema@.slot_of(e.key, e."position", %s) = %s', slots, slot) ELSE '' END;
END $$;
COMMENT ON FUNCTION @extschema@.slot_condition(integer, integer) IS
    'Internal: condition for events e of one of so many slots, as a tail of range_query(); empty for a single one.';
