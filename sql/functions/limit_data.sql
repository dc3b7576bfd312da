-- The domain of data holds the largest limit of all topics, which costs an INSERT little; a topic with a
-- lower one has a CHECK, which PostgreSQL parses for each statement. NOT VALID: events from before stay.
-- The caller holds the lock on topics that create_topic() takes. Domain and CHECKs change in one
-- transaction, and a CHECK waits for running publishers, so no event slips in between.
CREATE OR REPLACE FUNCTION @extschema@.limit_data() RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ceiling integer := (SELECT greatest(1048576, max(t.max_event_bytes)) FROM @extschema@.topics t);
    x       record;
BEGIN
    FOR x IN
        SELECT format('@extschema@.%I', 'topic_' || t.name) AS target, nullif(t.max_event_bytes, ceiling) AS wanted,
               (regexp_match(pg_get_constraintdef(c.oid), '<= ([0-9]+)'))[1]::integer AS present
          FROM @extschema@.topics t
          LEFT JOIN pg_constraint c ON c.conrelid = to_regclass(format('@extschema@.%I', 'topic_' || t.name)) AND c.conname = 'event_size'
         ORDER BY t.topic_id
    LOOP
        CONTINUE WHEN x.present IS NOT DISTINCT FROM x.wanted;
        IF x.present IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT event_size', x.target);
        END IF;
        IF x.wanted IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %s ADD CONSTRAINT event_size CHECK (pg_column_size(data) <= %s) NOT VALID', x.target, x.wanted);
        END IF;
    END LOOP;
    IF (SELECT pg_get_constraintdef(c.oid) FROM pg_constraint c WHERE c.contypid = '@extschema@.event_data'::regtype)
        NOT LIKE format('%% <= %s)%%', ceiling)
    THEN
        ALTER DOMAIN @extschema@.event_data DROP CONSTRAINT event_size;
        EXECUTE format('ALTER DOMAIN @extschema@.event_data ADD CONSTRAINT event_size CHECK (pg_column_size(VALUE) <= %s) NOT VALID', ceiling);
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.limit_data() IS 'Internal: bring the domain event_data and the CHECKs event_size in line with max_event_bytes of the topics.';
