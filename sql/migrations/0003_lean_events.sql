-- Events checked and numbered with less work for each INSERT (docs/decisions/0002).

-- publish() returns a named type: PostgreSQL finds the columns of that faster than those of TABLE (...).
-- zz_privileges.sql gives it back to whom it was granted.
DROP FUNCTION IF EXISTS @extschema@.publish(text, jsonb, text, uuid, text, text, text, jsonb, timestamptz);
CREATE TYPE @extschema@.receipt AS (id uuid, "position" bigint, deduplicated boolean);
COMMENT ON TYPE @extschema@.receipt IS 'What publish() returns.';
COMMENT ON COLUMN @extschema@.receipt.id IS 'Event id.';
COMMENT ON COLUMN @extschema@.receipt."position" IS 'Place in the topic.';
COMMENT ON COLUMN @extschema@.receipt.deduplicated IS 'true: the id was published before with the same content; these are its id and position.';

-- The limit of data moves from a CHECK of each topic into a domain. The domain has no constraint yet
-- when the column takes it, and gets one that is not looked up in existing rows: no table is rewritten or read.
CREATE DOMAIN @extschema@.event_data AS jsonb;
COMMENT ON DOMAIN @extschema@.event_data IS
    'Payload: any JSON value up to the largest max_event_bytes of all topics (pg_column_size), at least 1 MiB. A topic with a lower limit has a CHECK of its own.';
ALTER TABLE @extschema@.events ALTER data TYPE @extschema@.event_data;

DO $$
DECLARE
    ceiling integer := (SELECT greatest(1048576, max(t.max_event_bytes)) FROM @extschema@.topics t);
    t       @extschema@.topics;
BEGIN
    EXECUTE format('ALTER DOMAIN @extschema@.event_data ADD CONSTRAINT event_size CHECK (pg_column_size(VALUE) <= %s) NOT VALID', ceiling);
    FOR t IN SELECT * FROM @extschema@.topics ORDER BY topic_id LOOP
        -- as create_topic() does it
        EXECUTE format('ALTER TABLE ONLY @extschema@.%I
                ALTER source SET DEFAULT (''{}''::@extschema@.event_name[])[1],
                ALTER stream SET DEFAULT (''{}''::@extschema@.event_name[])[1],
                ALTER key SET DEFAULT (''{}''::@extschema@.event_name[])[1],
                ALTER tenant_id SET DEFAULT (''{}''::@extschema@.event_name[])[1],
                ALTER metadata SET DEFAULT (''{}''::@extschema@.event_metadata[])[1]', 'topic_' || t.name);
        IF t.max_event_bytes = ceiling THEN
            EXECUTE format('ALTER TABLE @extschema@.%I DROP CONSTRAINT event_size', 'topic_' || t.name);
        END IF;
    END LOOP;
END $$;
