-- Row comparisons say which index: (category, "position") and nothing else can answer them in order, so a rare
-- category is never looked for along the whole log, whatever the statistics say. The plain conditions on
-- "position" are for the leaves. Topic store has statements of its own, see read_stream().
CREATE OR REPLACE FUNCTION @extschema@.read_category(
        category text, after bigint DEFAULT 0, max_events integer DEFAULT 100, tenant_id text DEFAULT NULL,
        topic text DEFAULT 'store', since timestamptz DEFAULT NULL, upcast boolean DEFAULT false)
    RETURNS SETOF @extschema@.stored_event LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    is_store    boolean := read_category.topic = 'store';
    name        text := regexp_replace(read_category.category, '-[*]$', '');
    low         bigint := coalesce(read_category.after, 0);
    h           bigint;
    number      integer;
    has_trimmed boolean;
BEGIN
    IF (read_category.max_events BETWEEN 1 AND 10000 AND low >= 0) IS NOT TRUE THEN
        PERFORM @extschema@.check_read(read_category.max_events, after => low);
    ELSIF coalesce(name = '' OR octet_length(name) > 255 OR strpos(name, '-') > 0 OR strpos(name, '*') > 0, true) THEN
        PERFORM @extschema@.fail('TL005', 'category is not 1 to 255 bytes without dash, such as order or order-*', '{"field": "category", "limit": 255}');
    ELSIF NOT isfinite(read_category.since) THEN
        PERFORM @extschema@.fail('TL005', 'since is infinite', '{"field": "since"}');
    END IF;
    number := CASE WHEN is_store THEN 2 ELSE @extschema@.readable(read_category.topic) END;
    IF read_category.upcast THEN
        RETURN QUERY SELECT r."position", r.id, r.type, r.source, r.stream, r.version, r.key, r.tenant_id, u.data, u.metadata, r.expires_at, r.created_at
              FROM @extschema@.read_category(read_category.category, read_category.after, read_category.max_events,
                    read_category.tenant_id, read_category.topic, read_category.since) r,
                @extschema@.upcast_event(r.type, r.data, r.metadata) u ORDER BY r."position";
        RETURN;
    END IF;
    h := CASE WHEN is_store AND NOT pg_is_in_recovery() THEN (@extschema@.register_horizons(ARRAY['@extschema@.position_store'::regclass]))[1]
              ELSE @extschema@.horizon(read_category.topic) END;
    IF read_category.since IS NOT NULL THEN
        low := @extschema@.position_since(read_category.topic, read_category.since, low, h);
    END IF;
    has_trimmed := EXISTS (SELECT FROM @extschema@.streams s WHERE s.topic_id = number
        AND (s.first_version > 1 OR s.max_count IS NOT NULL OR s.max_age IS NOT NULL));
    IF is_store THEN
        RETURN QUERY SELECT e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at
              FROM @extschema@.topic_store e WHERE e.stream IS NOT NULL
               AND (split_part(e.stream, '-', 1), e."position") > (name, low) AND (split_part(e.stream, '-', 1), e."position") <= (name, h)
               AND e."position" > low AND e."position" <= h
               AND (read_category.tenant_id IS NULL OR e.tenant_id = read_category.tenant_id)
               AND (read_category.since IS NULL OR e.created_at >= read_category.since)
               -- a scalar subquery: a join might read all streams
               AND (NOT has_trimmed OR coalesce((SELECT e.version >= greatest(s.first_version, s.version - s.max_count + 1)
                                AND coalesce(e.created_at >= clock_timestamp() - s.max_age, true)
                               FROM @extschema@.streams s WHERE s.topic_id = 2 AND s.stream = e.stream
                                AND (s.first_version > 1 OR s.max_count IS NOT NULL OR s.max_age IS NOT NULL)), true))
             ORDER BY split_part(e.stream, '-', 1), e."position" LIMIT read_category.max_events;
    ELSE
        RETURN QUERY EXECUTE format('SELECT e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at
              FROM @extschema@.%I e WHERE e.stream IS NOT NULL
               AND (split_part(e.stream, ''-'', 1), e."position") > ($1, $2) AND (split_part(e.stream, ''-'', 1), e."position") <= ($1, $3)
               AND e."position" > $2 AND e."position" <= $3
               AND ($4 IS NULL OR e.tenant_id = $4) AND ($5 IS NULL OR e.created_at >= $5)
               AND (NOT $7 OR coalesce((SELECT e.version >= greatest(s.first_version, s.version - s.max_count + 1)
                                AND coalesce(e.created_at >= clock_timestamp() - s.max_age, true)
                               FROM @extschema@.streams s WHERE s.topic_id = $8 AND s.stream = e.stream
                                AND (s.first_version > 1 OR s.max_count IS NOT NULL OR s.max_age IS NOT NULL)), true))
             ORDER BY split_part(e.stream, ''-'', 1), e."position" LIMIT $6', 'topic_' || read_category.topic)
            USING name, low, h, read_category.tenant_id, read_category.since, read_category.max_events, has_trimmed, number;
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.read_category(text, bigint, integer, text, text, timestamptz, boolean) IS
    'Events of all streams of a category (order, or order-*), by position, after one, up to the safe horizon: reading on from the last position misses nothing. since: stored at this time or later. tenant_id: only its events, NULL all. max_events: 1 to 10000. Events that reads of their stream do not give (deleted, max_count, max_age) are left out. upcast: data in its newest form. READ COMMITTED only. Errors: TL005 names the field, TL002 unknown topic, 0A000 topic without streams, 42501 no right.';
