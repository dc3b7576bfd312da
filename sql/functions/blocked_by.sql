CREATE OR REPLACE FUNCTION @extschema@.blocked_by() RETURNS text LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- an earlier one only: what is replayed does not wait for a later event
    RETURN '(SELECT b."position" FROM @extschema@.retries b WHERE b.subscription_id = $7 AND b.key = e.key AND b."position" < e."position" LIMIT 1)';
END $$;
COMMENT ON FUNCTION @extschema@.blocked_by() IS
    'Internal: expression of an event that failed or waits in subscription $7 and that event e has to wait for; NULL: none.';
