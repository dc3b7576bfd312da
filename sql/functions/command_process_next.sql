CREATE OR REPLACE FUNCTION @extschema@.command_process_next() RETURNS uuid LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    next_id uuid;
BEGIN
    SELECT c.id INTO next_id FROM @extschema@.commands c WHERE c.status = 'pending' ORDER BY c.created_at, c.id LIMIT 1
       FOR NO KEY UPDATE SKIP LOCKED;
    IF FOUND THEN
        PERFORM @extschema@.command_process(next_id);
    END IF;
    RETURN next_id;
END $$;
COMMENT ON FUNCTION @extschema@.command_process_next() IS
    'command_process() for the oldest pending command that nobody else is at; returns its id, NULL: there is none. One a transaction, so that workers do not hold each other up.';
