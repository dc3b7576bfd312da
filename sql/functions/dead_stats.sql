CREATE OR REPLACE FUNCTION @extschema@.dead_stats()
    RETURNS TABLE (subscription text, reason text, dead bigint, redriven bigint, discarded bigint, resolved bigint,
        oldest timestamptz, newest timestamptz)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT d.subscription, d.reason, count(*) FILTER (WHERE d.state = 'dead'), count(*) FILTER (WHERE d.state = 'redriven'),
            count(*) FILTER (WHERE d.state = 'discarded'), count(*) FILTER (WHERE d.state = 'resolved'),
            min(d.dead_at) FILTER (WHERE d.state = 'dead'), max(d.dead_at) FILTER (WHERE d.state = 'dead')
      FROM @extschema@.dead_letters d
     GROUP BY d.subscription, d.reason ORDER BY d.subscription, d.reason;
END $$;
COMMENT ON FUNCTION @extschema@.dead_stats() IS
    'Number of dead letters by subscription, reason and state, and when the oldest and the newest that nobody has dealt with were given up.';
