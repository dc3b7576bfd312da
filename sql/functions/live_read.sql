CREATE OR REPLACE FUNCTION @extschema@.live_read(
        topic text, after bigint, upto bigint DEFAULT NULL, max_events integer DEFAULT 1000, max_bytes bigint DEFAULT 4194304,
        streams text[] DEFAULT NULL, categories text[] DEFAULT NULL, patterns text[] DEFAULT NULL, tenant text DEFAULT NULL)
    RETURNS TABLE ("position" bigint, id uuid, type text, source text, stream text, version bigint, key text,
        tenant_id text, data jsonb, metadata jsonb, expires_at timestamptz, created_at timestamptz, bytes bigint)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    -- the log is read along an index in its order, whatever the statistics of a young leaf say
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    h         bigint;
    bound     bigint;
    range     text := format(' FROM @extschema@.%I e WHERE e."position" > $1 AND e."position" <= $2', 'topic_' || live_read.topic);
    types     text[];
    regexes   text[];
    wanted    text[] := '{}';
    filter    text := '';
    in_order  text := 'e."position"';
BEGIN
    IF coalesce(max_events NOT BETWEEN 1 AND 10000, true) THEN
        PERFORM @extschema@.fail('TL005', 'max_events is not 1 to 10000', '{"field": "max_events", "limit": 10000}');
    END IF;
    -- before its sequence is locked: in the order of drop_topic()
    PERFORM @extschema@.topic_id_of(live_read.topic);
    EXECUTE format('LOCK TABLE ONLY @extschema@.%I IN ACCESS SHARE MODE', 'topic_' || live_read.topic);
    h := coalesce(live_read.upto, @extschema@.horizon(live_read.topic));
    bound := h;
    PERFORM @extschema@.check_cursor(live_read.topic, live_read.after);
    IF upto IS NOT NULL THEN
        PERFORM @extschema@.check_cursor(live_read.topic, upto);
    END IF;
    IF streams IS NOT NULL THEN
        wanted := wanted || 'e.stream = ANY ($4)'::text;
    END IF;
    IF cardinality(categories) = 1 AND wanted = '{}' AND patterns IS NULL THEN
        -- row comparisons say which index: see read_category()
        range := range || ' AND e.stream IS NOT NULL AND (split_part(e.stream, ''-'', 1), e."position") > (($5::text[])[1], $1)
            AND (split_part(e.stream, ''-'', 1), e."position") <= (($5::text[])[1], $2)';
        in_order := 'split_part(e.stream, ''-'', 1), e."position"';
        IF upto IS NOT NULL AND EXISTS (SELECT FROM @extschema@.streams s WHERE s.topic_id = @extschema@.topic_id_of(live_read.topic)
              AND (s.first_version > 1 OR s.max_count IS NOT NULL OR s.max_age IS NOT NULL))
        THEN
            -- of the past what read_category() gives
            filter := ' AND coalesce((SELECT e.version >= greatest(s.first_version, s.version - s.max_count + 1)
                                 AND coalesce(e.created_at >= clock_timestamp() - s.max_age, true)
                               FROM @extschema@.streams s WHERE s.topic_id = e.topic_id AND s.stream = e.stream
                                AND (s.first_version > 1 OR s.max_count IS NOT NULL OR s.max_age IS NOT NULL)), true)';
        END IF;
    ELSIF categories IS NOT NULL THEN
        wanted := wanted || 'split_part(e.stream, ''-'', 1) = ANY ($5)'::text;
    END IF;
    IF patterns IS NOT NULL THEN
        SELECT array_agg(p) FILTER (WHERE p NOT LIKE '%*%'), array_agg(@extschema@.pattern_regex(p)) FILTER (WHERE p LIKE '%*%')
          INTO types, regexes FROM unnest(patterns) p;
        wanted := wanted || CASE WHEN regexes IS NULL THEN 'e.type = ANY ($6)'
                                 WHEN types IS NULL THEN 'e.type ~ ANY ($7)'
                                 ELSE 'e.type = ANY ($6) OR e.type ~ ANY ($7)' END;
    END IF;
    IF wanted <> '{}' THEN
        filter := filter || ' AND (' || array_to_string(wanted, ' OR ') || ')';
    END IF;
    IF tenant IS NOT NULL THEN
        filter := filter || ' AND e.tenant_id = $8';
    END IF;
    IF filter <> '' AND h - after > 10000 THEN
        -- so many rows are looked at in one call, whether they match or not
        EXECUTE 'SELECT e."position"' || range || ' ORDER BY ' || in_order || ' OFFSET 9999 LIMIT 1' INTO bound
            USING after, h, NULL::bigint, streams, categories;
        bound := coalesce(bound, h);
    END IF;
    RETURN QUERY EXECUTE 'SELECT q."position", q.id, q.type::text, q.source::text, q.stream::text, q.version, q.key::text, q.tenant_id::text,
            q.data::jsonb, q.metadata::jsonb, q.expires_at, q.created_at, q.bytes
          FROM (SELECT p.*, sum(pg_column_size(p.data) + coalesce(pg_column_size(p.metadata), 0)) OVER (ORDER BY p."position" ROWS UNBOUNDED PRECEDING) AS bytes
                  FROM (SELECT e.*' || range || filter || ' ORDER BY ' || in_order || ' LIMIT $3) p) q
         WHERE q.bytes - pg_column_size(q.data) - coalesce(pg_column_size(q.metadata), 0) < $9 ORDER BY q."position"'
        USING after, bound, max_events, streams, categories, types, regexes, tenant, max_bytes;
    "position" := bound;
    version := h;
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION @extschema@.live_read(text, bigint, bigint, integer, bigint, text[], text[], text[], text) IS
    'Internal, for live subscriptions of the client: events after a position in order, up to the safe horizon or upto, which must have been one. streams, categories, patterns of types: events that any of those given wants; tenant: only its events. bytes: of the events up to this one; the one that reaches max_bytes is the last. At the end a row without id: when neither max_events nor max_bytes were reached, everything up to its position has been looked at, of what there is up to its version. READ COMMITTED only (TL005); TL005 after is not in the log, TL002 unknown topic.';
