CREATE OR REPLACE FUNCTION @extschema@.sentinel_release() RETURNS boolean LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT pg_advisory_unlock(@extschema@.lock_class(), 1) $$;
COMMENT ON FUNCTION @extschema@.sentinel_release() IS 'Stop being the sentinel.';
