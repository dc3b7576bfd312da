CREATE OR REPLACE FUNCTION @extschema@.low_water(of_topic integer, OUT low bigint, OUT held_by text) LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    SELECT q.low, q.name FROM (
        SELECT s.name, least(min(c.cursor),
                   (SELECT min(l.after) FROM @extschema@.leases l WHERE l.subscription_id = s.subscription_id AND l.events IS DISTINCT FROM 0),
                   (SELECT min(p.cursor) FROM @extschema@.replays p WHERE p.subscription_id = s.subscription_id),
                   -- a redriven one brings its own copy
                   (SELECT min(r."position") - 1 FROM @extschema@.retries r WHERE r.subscription_id = s.subscription_id AND r.event IS NULL)) AS low
          FROM @extschema@.subscriptions s JOIN @extschema@.cursors c USING (subscription_id)
         WHERE s.topic_id = of_topic AND NOT coalesce(s.mode = 'sync' AND s.target LIKE 'sql:%', false)
         GROUP BY s.subscription_id) q
     ORDER BY q.low, q.name LIMIT 1
$$;
COMMENT ON FUNCTION @extschema@.low_water(integer) IS
    'Internal: position up to which no subscription of the topic needs the log any more, and the one that needs it most; NULL without subscriptions.';
