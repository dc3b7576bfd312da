CREATE OR REPLACE FUNCTION @extschema@.cancel(id uuid, topic text DEFAULT NULL) RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    number bigint;
BEGIN
    LOOP -- moved or cancelled while we waited for its row: find_scheduled() says which
        number := @extschema@.find_scheduled(cancel.id, cancel.topic);
        DELETE FROM @extschema@.scheduled s WHERE s.scheduled_id = number;
        EXIT WHEN FOUND;
    END LOOP;
    RETURN true;
END $$;
COMMENT ON FUNCTION @extschema@.cancel(uuid, text) IS
    'Cancel a delayed event before it is due; its id is free again. topic: needed only when the id was used on several. Returns true. TL005: its delivery began (DETAIL has the position), TL002: no such event is known, or its id left the dedup window.';
