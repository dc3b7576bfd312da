CREATE OR REPLACE FUNCTION @extschema@.event_place(index bigint, place integer[], streams text[], is_many boolean) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF is_many THEN
        RETURN jsonb_build_object('stream', streams[place[index]], 'index', place[index] - 1,
            'event', index - 1 - coalesce((SELECT count(*) FROM unnest(place) p WHERE p < place[index]), 0));
    END IF;
    RETURN jsonb_build_object('index', index - 1);
END $$;
COMMENT ON FUNCTION @extschema@.event_place(bigint, integer[], text[], boolean) IS
    'Internal: where event number index, from 1, was in the arguments: its index; of append_streams() stream, index of the write and number in it.';
