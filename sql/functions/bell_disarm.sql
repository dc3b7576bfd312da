CREATE OR REPLACE FUNCTION @extschema@.bell_disarm() RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$ BEGIN RETURN pg_advisory_unlock(@extschema@.lock_class(), 0); END $$;
COMMENT ON FUNCTION @extschema@.bell_disarm() IS 'Sentinel: awake again; publishers need not notify.';
