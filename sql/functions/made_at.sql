-- What next_id() makes holds the position, so the row is found without an index on ids.
CREATE OR REPLACE FUNCTION @extschema@.made_at(topic text, event_id uuid) RETURNS bigint LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place bigint := (('x' || substr(replace(event_id::text, '-', ''), 17))::bit(64) & x'3fffffffffffffff')::bigint >> 14;
    found bigint;
BEGIN
    EXECUTE format('SELECT e."position" FROM @extschema@.%I e WHERE e."position" = $1 AND e.id = $2', 'topic_' || topic)
        INTO found USING place, event_id;
    RETURN found;
END $$;
COMMENT ON FUNCTION @extschema@.made_at(text, uuid) IS
    'Internal: position of the event of a topic whose id next_id() made; NULL: there is none with this id.';
