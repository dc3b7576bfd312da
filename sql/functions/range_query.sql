-- The one text of "which events of a range does a subscription want", so that a claim and every
-- later takeover agree. Run by EXECUTE: a plan with the values at hand prunes leaves. Parsing and
-- planning it is a good part of a claim, so it says no more than this subscription and range need.
CREATE OR REPLACE FUNCTION @extschema@.range_query(
        topic text, s @extschema@.subscriptions, positions bigint, columns text, tail text)
    RETURNS text LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN 'SELECT ' || columns || ' FROM '
        || format(CASE WHEN positions <= 10000 THEN '@extschema@.%I e WHERE e."position" > $1 AND e."position" <= $2'
            ELSE '(SELECT * FROM @extschema@.%I WHERE "position" > $1 AND "position" <= $2 ORDER BY "position" LIMIT 10000) e WHERE true' END,
            'topic_' || topic)
        || CASE WHEN s.pattern IN ('*', '**') THEN '' ELSE ' AND e.type ~ $3' END
        || CASE WHEN s.tenant_id IS NULL THEN '' ELSE ' AND e.tenant_id = $4' END
        || CASE WHEN s.filter IS NULL THEN '' ELSE ' AND e.data @> $5' END
        || CASE WHEN s.filter_path IS NULL THEN '' ELSE ' AND jsonb_path_match_tz(e.data, $6, ''{}'', true)' END
        || ' ' || tail;
END $$;
COMMENT ON FUNCTION @extschema@.range_query(text, @extschema@.subscriptions, bigint, text, text) IS
    'Internal: query of the events of a topic in ($1, $2], so many positions, at most 10000 looked at, that pass regular expression $3, tenant $4, containment $5 and jsonpath $6 of a subscription.';
