CREATE OR REPLACE FUNCTION @extschema@.channel() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN '@extschema@'::text;
COMMENT ON FUNCTION @extschema@.channel() IS
    'Name of the notification channel to LISTEN on: the schema''s (quoted as SQL would quote it). An empty payload means "read again", probe:... is a self-test of the sender.';
