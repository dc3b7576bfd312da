-- What is left out is dealt with on the way: no further look at the range for the rare cases. A key whose events may have to
-- wait lies between the first and the last of those in retries, and few are listed; the others pass for two comparisons. What is
-- between is looked for by park(), or, where park() has found that such keys are not among them, in the query itself: that
-- is dearer to plan and three times cheaper for a key. CASE: its parts have no selectivity to be estimated. Patterns (~<=~)
-- compare bytes, as the index does. Subqueries: where the planner sees the values, it plans this anew in each call.
CREATE OR REPLACE FUNCTION @extschema@.handout_query(
        topic text, s @extschema@.subscriptions, slot integer, has_holes boolean, is_blocked boolean, positions bigint, columns text, buries boolean)
    RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    first_keys text[];
    last_key   text;
    condition  text := '';
BEGIN
    IF is_blocked AND s.ordering = 'key' AND s.on_failure <> 'retry' THEN
        SELECT ARRAY(SELECT r.key FROM @extschema@.retries r
                      WHERE r.subscription_id = v.id AND r.key IS NOT NULL ORDER BY r.key LIMIT 8),
               (SELECT r.key FROM @extschema@.retries r
                 WHERE r.subscription_id = v.id AND r.key IS NOT NULL ORDER BY r.key DESC LIMIT 1)
          INTO first_keys, last_key FROM (SELECT s.subscription_id AS id OFFSET 0) v;
        IF last_key IS NOT NULL THEN
            condition := CASE WHEN first_keys[8] IS NULL THEN format('e.key = ANY (%L)', first_keys)
                ELSE format('e.key ~>=~ %L AND e.key ~<=~ %L', first_keys[1], last_key)
                    || CASE WHEN current_setting('trunkline.mixed_' || s.subscription_id, true) = 'on'
                        THEN format(' AND (SELECT true FROM @extschema@.retries b WHERE b.subscription_id = %s
                            AND b.key >= e.key::text AND b.key <= e.key::text ORDER BY b.key LIMIT 1)', s.subscription_id) ELSE '' END END;
            condition := ' AND CASE WHEN ' || condition || ' THEN @extschema@.park($11, e."position", e.key) ELSE true END';
        END IF;
    END IF;
    IF buries THEN
        condition := condition
            || ' AND (e.expires_at IS NULL OR e.expires_at > clock_timestamp() OR @extschema@.bury_expired($12, $10, $11, e."position", false))';
    END IF;
    RETURN @extschema@.range_query(topic, s, slot, has_holes, positions, columns, condition || ' ORDER BY e."position"');
END $$;
COMMENT ON FUNCTION @extschema@.handout_query(text, @extschema@.subscriptions, integer, boolean, boolean, bigint, text, boolean) IS
    'Internal: range_query() as it hands events out, in order, to subscription $7 = $12 of topic $10 under lease $11, whose cursor is locked: is_blocked: those behind an earlier event of their key are parked instead; buries: those that have expired are buried.';
