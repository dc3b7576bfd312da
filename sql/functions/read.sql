CREATE OR REPLACE FUNCTION @extschema@.read(
        topic text DEFAULT 'bus', after bigint DEFAULT 0, max_events integer DEFAULT 100, pattern text DEFAULT '**',
        tenant text DEFAULT NULL)
    RETURNS TABLE ("position" bigint, id uuid, type text, source text, stream text, version bigint, key text,
        tenant_id text, data jsonb, metadata jsonb, expires_at timestamptz, created_at timestamptz)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    -- the log is read along its primary key, whatever the statistics of a young leaf say
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    h bigint;
BEGIN
    IF coalesce(max_events NOT BETWEEN 1 AND 10000, true) THEN
        PERFORM @extschema@.fail('TL005', 'max_events is not 1 to 10000', '{"field": "max_events", "limit": 10000}');
    ELSIF @extschema@.pattern_problem(read.pattern) IS NOT NULL THEN
        PERFORM @extschema@.fail('TL005', 'pattern ' || @extschema@.pattern_problem(read.pattern), '{"field": "pattern", "limit": 255}');
    END IF;
    h := @extschema@.horizon(read.topic);
    RETURN QUERY EXECUTE format('SELECT e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at
          FROM @extschema@.%I e
         WHERE e."position" > $1 AND e."position" <= $2 AND ($3::text IS NULL OR e.type ~ $3) AND ($4::text IS NULL OR e.tenant_id = $4)
         ORDER BY e."position" LIMIT $5', 'topic_' || read.topic)
        USING coalesce(after, 0), h, @extschema@.pattern_regex(read.pattern), read.tenant, max_events;
END $$;
COMMENT ON FUNCTION @extschema@.read(text, bigint, integer, text, text) IS
    'Events of a topic in order, after a position, up to the safe horizon: reading on from the last position misses nothing. max_events: 1 to 10000. pattern, tenant: only those (NULL tenant: all). When fewer than max_events rows come, everything up to the horizon before the call has been looked at. READ COMMITTED only (TL005); TL002 unknown topic.';
