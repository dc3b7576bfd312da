CREATE OR REPLACE FUNCTION @extschema@.take_resends(owner text)
    RETURNS TABLE (resend_id bigint, subscription_id bigint, body text, id text, type text, source text, stream text, version bigint,
        key text, tenant_id text, data text, created_us bigint, expires_us bigint, "position" bigint)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    r @extschema@.resends;
    e record;
BEGIN
    FOR r IN
        UPDATE @extschema@.resends x SET owner = take_resends.owner, until = clock_timestamp() + interval '10 min' + coalesce(due.timeout, '0')
          FROM (SELECT y.resend_id, s.timeout FROM @extschema@.resends y JOIN @extschema@.subscriptions s USING (subscription_id)
                 WHERE s.active AND s.target ~ '^https?://' AND (y.until IS NULL OR y.until <= clock_timestamp())
                 ORDER BY 1 LIMIT 20 FOR UPDATE OF y SKIP LOCKED) due
         WHERE x.resend_id = due.resend_id
     RETURNING x.*
    LOOP
        SELECT v.* INTO e FROM jsonb_to_record(r.event) AS v("position" bigint, id text, type text, source text, stream text, version bigint,
            key text, tenant_id text, data jsonb, metadata jsonb, expires_at timestamptz, created_at timestamptz);
        e.data := coalesce(e.data, 'null'); -- a JSON null comes out as NULL
        resend_id := r.resend_id;
        subscription_id := r.subscription_id;
        "position" := e."position";
        id := e.id;
        type := e.type;
        source := e.source;
        stream := e.stream;
        version := e.version;
        key := e.key;
        tenant_id := e.tenant_id;
        data := e.data::text;
        created_us := (extract(epoch FROM e.created_at) * 1000000)::bigint;
        -- one that no number of microseconds can say must not hold up the others
        expires_us := CASE WHEN isfinite(e.expires_at) THEN (extract(epoch FROM least(e.expires_at, '294247-01-01 00:00:00Z')) * 1000000)::bigint END;
        -- as the library writes an event
        body := format('{"position":%s,"id":%s,"type":%s,"source":%s,"stream":%s,"version":%s,"key":%s,"tenant_id":%s,"data":%s,"metadata":%s,"expires_at":%s,"created_at":%s}',
            e."position", to_json(e.id), to_json(e.type), coalesce(to_json(e.source), 'null'), coalesce(to_json(e.stream), 'null'),
            coalesce(e.version::text, 'null'), coalesce(to_json(e.key), 'null'), coalesce(to_json(e.tenant_id), 'null'), e.data, coalesce(e.metadata, 'null'),
            coalesce(to_json(to_char(e.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')), 'null'), to_json(to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')));
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION @extschema@.take_resends(text) IS
    'Internal: up to 20 requests of webhook_resend() for a daemon to carry out; others may take over what it has not recorded after 10 minutes and the timeout.';
