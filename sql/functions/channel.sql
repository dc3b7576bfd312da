CREATE OR REPLACE FUNCTION @extschema@.channel() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN btrim('@extschema@', '"'); -- the token stands for a quoted name
COMMENT ON FUNCTION @extschema@.channel() IS
    'Name of the notification channel to LISTEN on: the name of the schema. An empty payload means "read again", probe:... is a self-test of the sender.';
