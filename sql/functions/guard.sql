CREATE OR REPLACE FUNCTION @extschema@.guard() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
        MESSAGE = format('%s on %s is refused: events are immutable', TG_OP, TG_TABLE_NAME),
        DETAIL = jsonb_build_object('table', TG_TABLE_NAME, 'operation', TG_OP)::text,
        HINT = 'Retention drops whole leaves; publish a correcting event instead of changing one.';
END $$;
COMMENT ON FUNCTION @extschema@.guard() IS
    'Internal: trigger that refuses UPDATE, DELETE and TRUNCATE of events, topics and leaves (42501), also to their owner.';
