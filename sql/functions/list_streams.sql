CREATE OR REPLACE FUNCTION @extschema@.list_streams(category text DEFAULT NULL, after text DEFAULT NULL, max_streams integer DEFAULT 100,
        topic text DEFAULT 'store', tenant_id text DEFAULT NULL, include_deleted boolean DEFAULT false)
    RETURNS SETOF @extschema@.stream_row
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    number integer := @extschema@.topic_id_of($4);
    name   text := regexp_replace($1, '-[*]$', '');
BEGIN
    IF coalesce(max_streams NOT BETWEEN 1 AND 10000, true) THEN
        PERFORM @extschema@.fail('TL005', 'max_streams is not 1 to 10000', '{"field": "max_streams", "limit": 10000}');
    ELSIF name = '' OR strpos(name, '-') > 0 THEN
        PERFORM @extschema@.fail('TL005', 'category is empty or has a dash', '{"field": "category"}', 'A category is what comes before the first dash.');
    END IF;
    IF name IS NULL THEN
        RETURN QUERY SELECT s.stream::text, s.version, s.first_version, s.state::text, s.tenant_id::text, s.max_count, s.max_age, s.metadata::jsonb,
                s.created_at, s.updated_at
            FROM @extschema@.streams s
           WHERE s.topic_id = number AND s.stream > coalesce(after, '') AND ($5 IS NULL OR s.tenant_id = $5)
             AND (include_deleted OR s.state = 'open')
           ORDER BY s.topic_id, s.stream LIMIT max_streams;
        RETURN;
    END IF;
    -- '.' is the next character after '-'
    RETURN QUERY SELECT s.stream::text, s.version, s.first_version, s.state::text, s.tenant_id::text, s.max_count, s.max_age, s.metadata::jsonb,
            s.created_at, s.updated_at
        FROM @extschema@.streams s
       WHERE s.topic_id = number AND s.stream > coalesce(after, '') AND s.stream >= name AND s.stream < name || '.'
         AND @extschema@.category(s.stream) = name AND ($5 IS NULL OR s.tenant_id = $5) AND (include_deleted OR s.state = 'open')
       ORDER BY s.topic_id, s.stream LIMIT max_streams;
END $$;
COMMENT ON FUNCTION @extschema@.list_streams(text, text, integer, text, text, boolean) IS
    'Streams in the order of their names'' bytes, behind the name after: pass the last one to go on. category: order or order-*; NULL: all. max_streams: 1 to 10000. tenant_id: only those (NULL: all). include_deleted: also deleted ones and tombstones. Those without events (version 0) are listed too. TL002 unknown topic.';
