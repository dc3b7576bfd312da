-- A lease is written under the lock on its cursor, which goes with the subscription. The foreign key that said so once more was
-- a fifth of what it costs to claim a single event; leases now go with their cursor (forget_leases()).
ALTER TABLE @extschema@.leases DROP CONSTRAINT leases_subscription_id_fkey;
COMMENT ON COLUMN @extschema@.cursors.epoch IS 'Counts leases given, each of which carries its own, and what waits for claims to end, as pause() does.';
COMMENT ON COLUMN @extschema@.leases.subscription_id IS 'Subscription; deleted with its cursors.';
