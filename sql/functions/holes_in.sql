-- Scalar subqueries: where the planner sees the values, it plans this anew in each call.
CREATE OR REPLACE FUNCTION @extschema@.holes_in(l @extschema@.leases) RETURNS boolean LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN EXISTS (SELECT FROM @extschema@.retries r
                    WHERE r.subscription_id = l.subscription_id AND r."position" > (SELECT l.after) AND r."position" <= (SELECT l.upto))
        OR EXISTS (SELECT FROM @extschema@.dead_letters d
                    WHERE d.subscription_id = l.subscription_id AND d."position" > (SELECT l.after) AND d."position" <= (SELECT l.upto) AND d.reason = 'expired');
END $$;
COMMENT ON FUNCTION @extschema@.holes_in(@extschema@.leases) IS
    'Internal: whether the range of a lease has positions that are dealt with elsewhere: in retries, or expired.';
