-- Claims that lock first and look in a later statement need the locks only. The statement of prepare_next() has one snapshot,
-- from before its lock: another epoch tells it that something has changed since.
CREATE OR REPLACE FUNCTION @extschema@.lock_cursors(of_subscription bigint) RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM @extschema@.cursors c WHERE c.subscription_id = of_subscription ORDER BY c.slot FOR UPDATE;
    UPDATE @extschema@.cursors c SET epoch = c.epoch + 1 WHERE c.subscription_id = of_subscription;
END $$;
COMMENT ON FUNCTION @extschema@.lock_cursors(bigint) IS
    'Internal: lock the slots of a subscription to change what claims depend on: those under way end first, later ones see the change. Behind lock_subscription() in the order of locks.';
