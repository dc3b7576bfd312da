CREATE OR REPLACE FUNCTION @extschema@.track_release(l @extschema@.leases) RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE @extschema@.deliveries d SET state = 'retrying', attempts = d.attempts - 1
     WHERE d.subscription_id = l.subscription_id AND d.state = 'processing'
       AND (EXISTS (SELECT FROM @extschema@.retries r WHERE r.token = l.token AND r."position" = d."position")
            OR d."position" > l.after AND d."position" <= l.upto AND NOT EXISTS (
                SELECT FROM @extschema@.retries r WHERE r.subscription_id = l.subscription_id AND r."position" = d."position"));
END $$;
COMMENT ON FUNCTION @extschema@.track_release(@extschema@.leases) IS
    'Internal: rows of deliveries of a lease that is handed back.';
