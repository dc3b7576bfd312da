CREATE OR REPLACE FUNCTION @extschema@.lock_line(s @extschema@.subscriptions) RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF s.ordering = 'none' AND s.on_failure = 'stop' THEN
        PERFORM pg_advisory_xact_lock(@extschema@.lock_class(), (-1 - s.subscription_id % 1000000000)::integer);
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.lock_line(@extschema@.subscriptions) IS
    'Internal: where all wait for what failed although many leases are out, one at a time says who is next: one that joins the queue may not be missed.';
