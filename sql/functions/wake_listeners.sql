CREATE OR REPLACE FUNCTION @extschema@.wake_listeners() RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$ BEGIN PERFORM pg_notify(@extschema@.channel(), ''); END $$;
COMMENT ON FUNCTION @extschema@.wake_listeners() IS
    'Sentinel: wake the sleeping sessions after something became readable, outside every publisher''s commit.';
