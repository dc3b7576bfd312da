-- The two topics that are there from the start. Here and not in a migration, because create_topic
-- is a function; a no-op ever after.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM @extschema@.topics) THEN
        CREATE TRIGGER guard BEFORE UPDATE OR DELETE OR TRUNCATE ON @extschema@.events
            FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.guard();
        PERFORM @extschema@.create_topic('bus', rotation => 'day', retention => interval '7 days');
        PERFORM @extschema@.create_topic('store', dedup_window => NULL, streams => true);
    END IF;
END $$;
