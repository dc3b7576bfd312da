-- The one text of "which events of a range does a subscription want", so that a claim and every
-- later takeover agree. Run by EXECUTE: a plan with the values at hand prunes leaves. Parsing and
-- planning it is a good part of a claim, so it says no more than this subscription and range need.
-- s.slots: as many as there are cursors.
CREATE OR REPLACE FUNCTION @extschema@.range_query(
        topic text, s @extschema@.subscriptions, slot integer, has_holes boolean, positions bigint, columns text, tail text)
    RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN 'SELECT ' || columns || ' FROM '
        || format(CASE WHEN positions <= 10000 THEN '@extschema@.%I e WHERE e."position" > $1 AND e."position" <= $2'
            ELSE '(SELECT * FROM @extschema@.%I WHERE "position" > $1 AND "position" <= $2 ORDER BY "position" LIMIT 10000) e WHERE true' END,
            'topic_' || topic)
        || CASE WHEN s.pattern IN ('*', '**') THEN '' ELSE @extschema@.type_condition(s.pattern, '$3') END
        || CASE WHEN s.slots = 1 THEN '' ELSE format(' AND %s = %s', @extschema@.slot_expression(s.slots), slot) END
        || CASE WHEN s.tenant_id IS NULL THEN '' ELSE ' AND e.tenant_id = $4' END
        || CASE WHEN s.filter IS NULL THEN '' ELSE ' AND e.data @> $5' END
        || CASE WHEN s.filter_path IS NULL THEN '' ELSE ' AND jsonb_path_match_tz(e.data, $6, ''{}'', true)' END
        -- a scalar subquery: a join might read all that waits
        || CASE WHEN NOT has_holes THEN '' ELSE format(' AND (SELECT r."position" FROM @extschema@.retries r WHERE r.subscription_id = %1$s AND r."position" = e."position") IS NULL
            AND (SELECT d."position" FROM @extschema@.dead_letters d WHERE d.subscription_id = %1$s AND d."position" = e."position" AND d.reason = ''expired'') IS NULL',
            s.subscription_id) END
        || ' ' || tail;
END $$;
COMMENT ON FUNCTION @extschema@.range_query(text, @extschema@.subscriptions, integer, boolean, bigint, text, text) IS
    'Internal: query of the events of a topic in ($1, $2], so many positions, at most 10000 looked at, that pass type $3 (type_operand()), tenant $4, containment $5 and jsonpath $6 of a subscription and belong to the slot; has_holes: and have no row of retries and have not expired before.';
