-- By md5, since hashtext() may change with the version of PostgreSQL.
CREATE OR REPLACE FUNCTION @extschema@.slot_of(key text, "position" bigint, slots integer) RETURNS integer
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN key IS NULL THEN ("position" % slots)::integer
        ELSE ('x' || left(md5(key), 7))::bit(28)::integer % slots END;
END $$;
COMMENT ON FUNCTION @extschema@.slot_of(text, bigint, integer) IS 'Internal: the slot of an event among so many.';
