CREATE OR REPLACE FUNCTION @extschema@.move_events(topic_number integer, numbers bigint[]) RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    topic text;
BEGIN
    SELECT t.name INTO topic FROM @extschema@.topics t WHERE t.topic_id = topic_number;
    IF NOT FOUND THEN
        PERFORM @extschema@.fail('TL002', format('topic number %s does not exist', topic_number));
    END IF;
    EXECUTE format('WITH moved AS (
            INSERT INTO @extschema@.%I AS t (id, type, source, key, tenant_id, data, metadata, expires_at)
                SELECT s.id, s.type, s.source, s.key, s.tenant_id, s.data, s.metadata, s.expires_at
                  FROM @extschema@.scheduled s WHERE s.scheduled_id = ANY ($2) ORDER BY s.run_at, s.scheduled_id
                RETURNING t.id, t."position")
        UPDATE @extschema@.dedup d SET "position" = m."position", scheduled_id = NULL, created_at = clock_timestamp()
          FROM moved m WHERE d.topic_id = $1 AND d.id = m.id', 'topic_' || topic)
        USING topic_number, numbers;
    DELETE FROM @extschema@.scheduled s WHERE s.scheduled_id = ANY (numbers);
END $$;
COMMENT ON FUNCTION @extschema@.move_events(integer, bigint[]) IS
    'Internal: move rows of scheduled, which are locked, into the log of their topic, in the order of due times.';
