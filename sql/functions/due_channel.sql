CREATE OR REPLACE FUNCTION @extschema@.due_channel() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT @extschema@.channel() || '.due' $$;
COMMENT ON FUNCTION @extschema@.due_channel() IS
    'Name of the notification channel of who moves due events: something falls due sooner than it may have thought. The payload says nothing.';
