CREATE OR REPLACE FUNCTION @extschema@.slot_metadata(metadata jsonb, schedule text, slot timestamptz) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce(metadata, '{}') || jsonb_build_object('schedule', schedule,
        'slot', to_char(slot AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'));
END $$;
COMMENT ON FUNCTION @extschema@.slot_metadata(jsonb, text, timestamptz) IS
    'Internal: metadata of an event that a schedule fires: its own, schedule (the name) and slot (the time it stands for, UTC).';
