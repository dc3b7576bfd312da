-- The lock on the row of link_streams puts links in order: positions are dense, and whoever sees one sees all before it.
CREATE OR REPLACE FUNCTION @extschema@.link(name text, event_id uuid, tenant text DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    place  record;
    linked bigint;
    last   bigint;
BEGIN
    IF coalesce(octet_length(link.name) NOT BETWEEN 1 AND 255, true) THEN
        PERFORM @extschema@.fail('TL005', 'name is not 1 to 255 bytes', '{"field": "name", "limit": 255}');
    END IF;
    SELECT f.topic, f."position" INTO place FROM @extschema@.find(link.event_id, link.tenant) f;
    IF NOT FOUND THEN
        PERFORM @extschema@.fail('TL002', format('there is no event %s', coalesce(link.event_id::text, 'NULL')),
            jsonb_build_object('field', 'event_id', 'value', link.event_id));
    END IF;
    INSERT INTO @extschema@.link_streams (name, last) VALUES (link.name, 0) ON CONFLICT DO NOTHING;
    SELECT s.last INTO last FROM @extschema@.link_streams s WHERE s.name = link.name FOR NO KEY UPDATE;
    SELECT l."position" INTO linked FROM @extschema@.links l WHERE l.name = link.name AND l.event_id = link.event_id;
    IF FOUND THEN
        RETURN linked;
    END IF;
    UPDATE @extschema@.link_streams s SET last = s.last + 1 WHERE s.name = link.name;
    INSERT INTO @extschema@.links (name, "position", topic_id, event_position, event_id)
        VALUES (link.name, last + 1, @extschema@.topic_id_of(place.topic), place."position", link.event_id);
    RETURN last + 1;
END $$;
COMMENT ON FUNCTION @extschema@.link(text, uuid, text) IS
    'Put an event into a named stream, as a link and not a copy, and return its position there: 1, 2, ... without gaps; an event that is in it already keeps its position. name: 1 to 255 bytes. TL002: no such event that one may read, or not of this tenant (NULL: whoever''s); TL005 names the field.';
