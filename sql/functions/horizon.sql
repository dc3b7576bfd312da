CREATE OR REPLACE FUNCTION @extschema@.horizon(topic text DEFAULT 'bus') RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    number integer := @extschema@.topic_id_of(topic);
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN coalesce((SELECT h."position" FROM @extschema@.horizons h WHERE h.topic_id = number), 0);
    END IF;
    RETURN (@extschema@.register_horizons(ARRAY[('@extschema@.position_' || topic)::regclass]))[1];
END $$;
COMMENT ON FUNCTION @extschema@.horizon(text) IS
    'Safe horizon of a topic: every position up to it is visible to the next statement or will never be. Only a transaction that itself published holds it back. Read the log in a later statement, not in the same one. READ COMMITTED only (TL005); TL002 unknown topic. On a standby: what publish_horizons() last said on the primary, 0 if nothing yet.';
