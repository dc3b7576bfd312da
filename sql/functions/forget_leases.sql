-- In place of a foreign key. Who deletes a cursor has waited for the claim that held it, so sees its lease. Before the cursor goes: what
-- else goes with its subscription comes behind it, and acks lock leases before retries.
CREATE OR REPLACE FUNCTION @extschema@.forget_leases() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM @extschema@.leases;
        RETURN NULL;
    END IF;
    DELETE FROM @extschema@.leases l WHERE l.subscription_id = OLD.subscription_id AND l.slot = OLD.slot;
    RETURN OLD;
END $$;
COMMENT ON FUNCTION @extschema@.forget_leases() IS
    'Internal: trigger of cursors: leases of a slot go with its cursor.';
CREATE OR REPLACE TRIGGER forget BEFORE DELETE ON @extschema@.cursors
    FOR EACH ROW EXECUTE FUNCTION @extschema@.forget_leases();
COMMENT ON TRIGGER forget ON @extschema@.cursors IS 'Leases go with their cursor, as with the subscription.';
CREATE OR REPLACE TRIGGER forget_all BEFORE TRUNCATE ON @extschema@.cursors
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.forget_leases();
COMMENT ON TRIGGER forget_all ON @extschema@.cursors IS 'The same when all of them go.';
