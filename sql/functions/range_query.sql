-- The one text of "which events of a range does a subscription want", so that a claim and every
-- later takeover agree. Run by EXECUTE: a plan with the values at hand prunes leaves and tests.
CREATE OR REPLACE FUNCTION @extschema@.range_query(topic text, columns text, tail text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format('SELECT %s FROM (SELECT * FROM @extschema@.%I WHERE "position" > $1 AND "position" <= $2 ORDER BY "position" LIMIT 10000) e
        WHERE ($3::text IS NULL OR e.type ~ $3) AND ($4::text IS NULL OR e.tenant_id = $4)
          AND ($5::jsonb IS NULL OR e.data @> $5) AND ($6::jsonpath IS NULL OR jsonb_path_match_tz(e.data, $6, ''{}'', true)) %s',
        columns, 'topic_' || topic, tail);
END $$;
COMMENT ON FUNCTION @extschema@.range_query(text, text, text) IS
    'Internal: query of the events of a topic in ($1, $2], at most 10000 looked at, that pass regular expression $3, tenant $4, containment $5 and jsonpath $6.';
