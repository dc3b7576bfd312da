-- NO KEY UPDATE: a claimer holds its cursor while the foreign key of a retry looks at this row.
CREATE OR REPLACE FUNCTION @extschema@.lock_subscription(name text) RETURNS @extschema@.subscriptions
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s @extschema@.subscriptions;
BEGIN
    SELECT x.* INTO s FROM @extschema@.subscriptions x WHERE x.name = lock_subscription.name FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM @extschema@.fail('TL002', format('subscription "%s" does not exist', left(lock_subscription.name, 255)), '{"field": "name"}');
    END IF;
    RETURN s;
END $$;
COMMENT ON FUNCTION @extschema@.lock_subscription(text) IS
    'Internal: lock a subscription against other changes of it; first in the order of locks. TL002.';
