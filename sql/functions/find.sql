CREATE OR REPLACE FUNCTION @extschema@.find(event_id uuid, tenant text DEFAULT NULL, upcast boolean DEFAULT false)
    RETURNS TABLE (topic text, "position" bigint, id uuid, type text, source text, stream text, version bigint, key text,
        tenant_id text, data jsonb, metadata jsonb, expires_at timestamptz, created_at timestamptz)
    LANGUAGE plpgsql STABLE ROWS 1
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    place record;
BEGIN
    FOR place IN SELECT l.topic, l."position" FROM @extschema@.locate(find.event_id) l LOOP
        CONTINUE WHEN NOT has_column_privilege('@extschema@.topic_' || place.topic, 'data', 'SELECT')
            OR pg_is_in_recovery() AND place."position" > @extschema@.horizon(place.topic);
        RETURN QUERY EXECUTE format('SELECT $1, e."position", e.id, e.type::text, e.source::text, e.stream::text, e.version, e.key::text, e.tenant_id::text, %s, e.expires_at, e.created_at
              FROM @extschema@.%I e%s WHERE e."position" = $2 AND e.id = $3 AND ($4 IS NULL OR e.tenant_id = $4)',
                CASE WHEN find.upcast THEN 'u.data, u.metadata' ELSE 'e.data::jsonb, e.metadata::jsonb' END, 'topic_' || place.topic,
                CASE WHEN find.upcast THEN ', @extschema@.upcast_event(e.type, e.data, e.metadata) u' ELSE '' END)
            USING place.topic, place."position", find.event_id, find.tenant;
        EXIT WHEN FOUND;
    END LOOP;
END $$;
COMMENT ON FUNCTION @extschema@.find(uuid, text, boolean) IS
    'The event with an id, from whichever topic that one may read: see locate() for the ids that are known. No row: there is none, or not of this tenant (NULL: whoever''s). Also what stream reads do not give any more. upcast: data in its newest form.';
