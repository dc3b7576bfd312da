CREATE OR REPLACE FUNCTION @extschema@.fire_slot(s @extschema@.schedules, slot timestamptz) RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- UUID version 8 (RFC 9562): made of a digest
    digest text := md5(format('%s %s %s', s.schedule_id, extract(epoch FROM s.created_at), extract(epoch FROM slot)));
BEGIN
    PERFORM FROM @extschema@.publish(s.type, s.data, (SELECT t.name FROM @extschema@.topics t WHERE t.topic_id = s.topic_id),
        overlay(overlay(digest PLACING '8' FROM 13) PLACING 'a' FROM 17)::uuid, s.key, s.tenant_id, s.source,
        @extschema@.slot_metadata(s.metadata, s.name, slot));
EXCEPTION WHEN SQLSTATE 'TL003' THEN
    NULL; -- it fired before, when the schedule said other things
END $$;
COMMENT ON FUNCTION @extschema@.fire_slot(@extschema@.schedules, timestamptz) IS
    'Internal: publish the event of one slot of a schedule.';
