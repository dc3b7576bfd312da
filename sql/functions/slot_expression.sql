-- md5, not hashtext: the same in every version of the server, so a dump keeps each key in its slot.
CREATE OR REPLACE FUNCTION @extschema@.slot_expression(slots integer) RETURNS text LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format('CASE WHEN e.key IS NULL THEN (e."position" %% %1$s)::integer ELSE (''x'' || left(md5(e.key), 7))::bit(28)::integer %% %1$s END', slots);
END $$;
COMMENT ON FUNCTION @extschema@.slot_expression(integer) IS
    'Internal: expression of the slot of an event e with so many of them: by its key, without a key by its position.';
