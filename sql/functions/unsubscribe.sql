CREATE OR REPLACE FUNCTION @extschema@.unsubscribe(name text) RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM @extschema@.subscriptions s WHERE s.name = unsubscribe.name;
    IF NOT FOUND THEN
        PERFORM @extschema@.fail('TL002', format('subscription "%s" does not exist', left(unsubscribe.name, 255)), '{"field": "name"}');
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.unsubscribe(text) IS
    'Remove a subscription with its cursors, leases and retries; a lease in flight is fenced, dead letters stay. TL002 when there is none.';
