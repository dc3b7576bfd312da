CREATE OR REPLACE FUNCTION @extschema@.bell_disarm() RETURNS boolean LANGUAGE plpgsql VOLATILE
    AS $$ BEGIN RETURN pg_catalog.pg_advisory_unlock(@extschema@.lock_class(), 0); END $$;
COMMENT ON FUNCTION @extschema@.bell_disarm() IS 'Sentinel: awake again; publishers need not notify.';
