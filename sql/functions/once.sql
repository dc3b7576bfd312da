CREATE OR REPLACE FUNCTION @extschema@.once(subscription text, event_id uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF once.event_id IS NULL OR coalesce(octet_length(once.subscription) NOT BETWEEN 1 AND 255, true) THEN
        PERFORM @extschema@.fail('TL005', CASE WHEN once.event_id IS NULL THEN 'event_id is NULL' ELSE 'subscription is not 1 to 255 bytes' END,
            CASE WHEN once.event_id IS NULL THEN '{"field": "event_id"}' ELSE '{"field": "subscription", "limit": 255}' END::jsonb);
    END IF;
    -- waits for a transaction that has said the same and not ended
    INSERT INTO @extschema@.inbox (subscription, event_id) VALUES (once.subscription, once.event_id) ON CONFLICT DO NOTHING;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION @extschema@.once(text, uuid) IS
    'For handlers with effects in this database: true for the first caller with this subscription and event, false for all later ones. Call it in the transaction of the effects: it is remembered when that commits and forgotten when it rolls back; meanwhile others who ask wait. Remembered for trunkline.inbox_window (a setting of the role that runs maintain(), 30 days). TL005 names the field.';
