CREATE OR REPLACE FUNCTION @extschema@.redact_snapshots(topic_id integer, streams text[]) RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF to_regclass('@extschema@.snapshots') IS NOT NULL AND array_remove(streams, NULL) <> '{}' THEN
        -- one that is being saved cannot be seen yet: wait for it, and let no other begin
        LOCK TABLE @extschema@.snapshots IN SHARE ROW EXCLUSIVE MODE;
        DELETE FROM @extschema@.snapshots s WHERE s.topic_id = redact_snapshots.topic_id AND s.stream = ANY (streams);
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.redact_snapshots(integer, text[]) IS
    'Internal: delete the snapshots of streams whose events were redacted: what they were made from is gone.';
