-- What is left out is dealt with on the way: no further look at the range for the rare cases. Which keys wait is asked
-- once for all events, which are kept meanwhile and come in the order in which they were read.
CREATE OR REPLACE FUNCTION @extschema@.handout_query(
        topic text, s @extschema@.subscriptions, slot integer, has_holes boolean, is_blocked boolean, positions bigint, columns text, buries boolean)
    RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    condition CONSTANT text := CASE WHEN buries
        THEN ' AND (e.expires_at IS NULL OR e.expires_at > clock_timestamp() OR @extschema@.bury_expired($12, $10, $11, e."position", false))' ELSE '' END;
BEGIN
    IF is_blocked AND s.ordering = 'key' AND s.on_failure <> 'retry' THEN
        RETURN format('WITH q AS MATERIALIZED (%s) SELECT %s FROM q e
            WHERE (e.key IS NULL OR NOT e.key = ANY ((SELECT @extschema@.blocked_among($7, ARRAY(SELECT q.key::text FROM q)))::text[])
                OR @extschema@.park($11, e."position", e.key))',
            @extschema@.range_query(topic, s, slot, has_holes, positions, 'e.*', 'ORDER BY e."position"'), columns) || condition;
    END IF;
    RETURN @extschema@.range_query(topic, s, slot, has_holes, positions, columns, condition || ' ORDER BY e."position"');
END $$;
COMMENT ON FUNCTION @extschema@.handout_query(text, @extschema@.subscriptions, integer, boolean, boolean, bigint, text, boolean) IS
    'Internal: range_query() as it hands events out, in order, to subscription $7 = $12 of topic $10 under lease $11: is_blocked: those behind an earlier event of their key are parked instead; buries: those that have expired are buried.';
