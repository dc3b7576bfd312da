-- Topic store has statements of its own, see read_stream(). Forward and without more conditions is one of
-- the paths worth that.
CREATE OR REPLACE FUNCTION @extschema@.read(
        topic text DEFAULT 'bus', after bigint DEFAULT 0, max_events integer DEFAULT 100, pattern text DEFAULT '**',
        tenant text DEFAULT NULL, types text[] DEFAULT NULL, correlation text DEFAULT NULL, since timestamptz DEFAULT NULL,
        direction text DEFAULT 'forward', upcast boolean DEFAULT false)
    RETURNS SETOF @extschema@.stored_event LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    -- the log is read along its primary key, whatever the statistics of a young leaf say
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    h     bigint;
    low   bigint := coalesce(read.after, 0);
    regex text;
    down  text;
BEGIN
    IF (read.max_events BETWEEN 1 AND 10000 AND read.direction IN ('forward', 'backward')) IS NOT TRUE THEN
        PERFORM @extschema@.check_read(read.max_events, read.direction);
    ELSIF read.pattern IS DISTINCT FROM '**' AND @extschema@.pattern_problem(read.pattern) IS NOT NULL THEN
        PERFORM @extschema@.fail('TL005', 'pattern ' || @extschema@.pattern_problem(read.pattern), '{"field": "pattern", "limit": 255}');
    ELSIF cardinality(read.types) NOT BETWEEN 1 AND 1000 OR array_position(read.types, NULL) IS NOT NULL THEN
        PERFORM @extschema@.fail('TL005', 'types is not 1 to 1000 event types', '{"field": "types", "limit": 1000}');
    ELSIF NOT isfinite(read.since) THEN
        PERFORM @extschema@.fail('TL005', 'since is infinite', '{"field": "since"}');
    ELSIF read.upcast THEN
        RETURN QUERY SELECT r."position", r.id, r.type, r.source, r.stream, r.version, r.key, r.tenant_id, u.data, u.metadata, r.expires_at, r.created_at
              FROM @extschema@.read(read.topic, read.after, read.max_events, read.pattern, read.tenant, read.types, read.correlation,
                    read.since, read.direction) WITH ORDINALITY r
                  (position, id, type, source, stream, version, key, tenant_id, data, metadata, expires_at, created_at, n),
                @extschema@.upcast_event(r.type, r.data, r.metadata) u ORDER BY r.n;
        RETURN;
    END IF;
    h := CASE WHEN read.topic = 'store' AND NOT pg_is_in_recovery() THEN (@extschema@.register_horizons(ARRAY['@extschema@.position_store'::regclass]))[1]
              ELSE @extschema@.horizon(read.topic) END;
    IF read.pattern <> '**' THEN
        regex := @extschema@.pattern_regex(read.pattern);
    END IF;
    IF read.direction = 'backward' THEN
        h := least(h, CASE WHEN low > 0 THEN low - 1 END);
        low := 0;
    END IF;
    IF read.since IS NOT NULL THEN
        low := @extschema@.position_since(read.topic, read.since, low, h);
    END IF;
    IF read.topic = 'store' AND read.direction = 'forward' AND num_nonnulls(read.types, read.correlation) = 0 THEN
        RETURN QUERY SELECT e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at
              FROM @extschema@.topic_store e
             WHERE e."position" > low AND e."position" <= h AND (regex IS NULL OR e.type ~ regex) AND (read.tenant IS NULL OR e.tenant_id = read.tenant)
               AND (read.since IS NULL OR e.created_at >= read.since)
             ORDER BY e."position" LIMIT read.max_events;
        RETURN;
    END IF;
    down := CASE read.direction WHEN 'backward' THEN ' DESC' ELSE '' END;
    RETURN QUERY EXECUTE format('SELECT e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, e.data::jsonb, e.metadata::jsonb, e.expires_at, e.created_at
          FROM @extschema@.%I e
         WHERE e."position" > $1 AND e."position" <= $2 AND ($3 IS NULL OR e.type ~ $3) AND ($4 IS NULL OR e.tenant_id = $4)
           AND ($5 IS NULL OR e.type = ANY ($5)) AND ($6 IS NULL OR e.created_at >= $6)', 'topic_' || read.topic)
        || CASE
            WHEN read.correlation IS NULL THEN ' ORDER BY e."position"' || down
            -- as in read_category()
            WHEN (SELECT t.streams FROM @extschema@.topics t WHERE t.name = read.topic) THEN
                ' AND e.metadata ->> ''correlation_id'' IS NOT NULL AND (e.metadata ->> ''correlation_id'', e."position") > ($7, $1)
                  AND (e.metadata ->> ''correlation_id'', e."position") <= ($7, $2)
                ORDER BY (e.metadata ->> ''correlation_id'')' || down || ', e."position"' || down
            ELSE ' AND e.metadata ->> ''correlation_id'' = $7 ORDER BY e."position"' || down END
        || ' LIMIT $8'
        USING low, h, regex, read.tenant, read.types, read.since, read.correlation, read.max_events;
END $$;
COMMENT ON FUNCTION @extschema@.read(text, bigint, integer, text, text, text[], text, timestamptz, text, boolean) IS
    'Events of a topic in order, after a position, up to the safe horizon: reading on from the last position misses nothing. max_events: 1 to 10000. pattern, tenant, types (any of them), correlation (metadata.correlation_id), since (stored then or later): only those; NULL: all. direction backward: from the one before after (0: from the horizon) down. When fewer than max_events rows come, everything up to the horizon before the call has been looked at. upcast: data in its newest form. READ COMMITTED only (TL005); TL002 unknown topic.';
