CREATE OR REPLACE FUNCTION @extschema@.wake_listeners() RETURNS void LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT pg_notify(@extschema@.channel(), '') $$;
COMMENT ON FUNCTION @extschema@.wake_listeners() IS
    'Sentinel: wake the sleeping sessions after something became readable, outside every publisher''s commit.';
