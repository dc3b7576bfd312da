-- What is left out is dealt with on the way: no further look at the range for the rare cases.
CREATE OR REPLACE FUNCTION @extschema@.handout_condition(s @extschema@.subscriptions, has_holes boolean, buries boolean) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN has_holes AND s.ordering = 'key' AND s.on_failure <> 'retry'
            THEN ' AND (e.key IS NULL OR ' || @extschema@.blocked_by() || ' IS NULL OR @extschema@.park($11, e."position", e.key))' ELSE '' END
        || CASE WHEN buries
            THEN ' AND (e.expires_at IS NULL OR e.expires_at > clock_timestamp() OR @extschema@.bury_expired($12, $10, $11, e."position", false))' ELSE '' END;
END $$;
COMMENT ON FUNCTION @extschema@.handout_condition(@extschema@.subscriptions, boolean, boolean) IS
    'Internal: what else range_query() asks when it hands events out to subscription $7 = $12 of topic $10 under lease $11: has_holes: not behind an earlier event of the key, those are parked; buries: not expired, those are buried.';
