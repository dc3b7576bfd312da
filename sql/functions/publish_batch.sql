CREATE OR REPLACE FUNCTION @extschema@.publish_batch(events jsonb, topic text DEFAULT 'bus')
    RETURNS TABLE (id uuid, "position" bigint, deduplicated boolean) LANGUAGE plpgsql VOLATILE ROWS 1
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    fields text[] := ARRAY['type', 'data', 'id', 'key', 'tenant_id', 'source', 'metadata', 'expires_at',
        'run_at', 'delay', 'ttl'];
    e      record;
    field  text;
    detail text;
    advice text;
BEGIN
    PERFORM @extschema@.topic_id_of(publish_batch.topic);
    IF coalesce(jsonb_typeof(events) <> 'array' OR jsonb_array_length(events) = 0, true) THEN
        PERFORM @extschema@.fail('TL005', 'events is not a JSON array of at least one event', '{"field": "events"}');
    END IF;
    BEGIN
        FOR e IN SELECT a.i - 1 AS index, a.element AS x FROM jsonb_array_elements(events) WITH ORDINALITY a(element, i) ORDER BY a.i LOOP
            field := 'events';
            IF jsonb_typeof(e.x) <> 'object' THEN
                PERFORM @extschema@.fail('TL005', 'not an object', '{"field": "events"}');
            END IF;
            SELECT k INTO field FROM jsonb_object_keys(e.x) k
             WHERE k <> ALL (fields) OR k NOT IN ('data', 'metadata') AND jsonb_typeof(e.x -> k) NOT IN ('string', 'null')
             ORDER BY k LIMIT 1;
            IF FOUND THEN
                PERFORM @extschema@.fail('TL005', CASE WHEN field = ANY (fields) THEN field || ' is not a string'
                        ELSE format('unknown field "%s"', left(field, 60)) END, jsonb_build_object('field', left(field, 60)));
            END IF;
            field := 'id';
            PERFORM (e.x ->> 'id')::uuid;
            field := 'expires_at';
            PERFORM (e.x ->> 'expires_at')::timestamptz;
            field := 'run_at';
            PERFORM (e.x ->> 'run_at')::timestamptz;
            field := 'delay';
            PERFORM (e.x ->> 'delay')::interval;
            field := 'ttl';
            PERFORM (e.x ->> 'ttl')::interval;
            PERFORM @extschema@.due_time((e.x ->> 'run_at')::timestamptz, (e.x ->> 'delay')::interval, (e.x ->> 'ttl')::interval,
                (e.x ->> 'expires_at')::timestamptz);
            PERFORM @extschema@.check_event(publish_batch.topic, e.x ->> 'type', e.x -> 'data', e.x ->> 'key', e.x ->> 'tenant_id',
                e.x ->> 'source', nullif(e.x -> 'metadata', 'null'));
        END LOOP;
    EXCEPTION
        WHEN SQLSTATE 'TL005' OR SQLSTATE 'TL007' THEN
            GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, advice = PG_EXCEPTION_HINT;
            PERFORM @extschema@.fail(SQLSTATE, format('event %s of the batch: %s', e.index, SQLERRM),
                detail::jsonb || jsonb_build_object('index', e.index), advice);
        WHEN data_exception THEN
            PERFORM @extschema@.fail('TL005', format('event %s of the batch: %s', e.index, SQLERRM),
                jsonb_build_object('field', field, 'index', e.index));
    END;
    IF jsonb_path_exists(events, '$[*].keyvalue() ? (@.key == "id" || @.key == "run_at" || @.key == "delay" || @.key == "ttl").value ? (@ != null)') THEN
        -- not by a lateral join: the planner may put Memoize on it, and equal events would be stored once
        FOR e IN SELECT r.* FROM jsonb_array_elements(events) WITH ORDINALITY a(element, i),
                    jsonb_to_record(a.element) AS r(type text, data jsonb, id uuid, key text, tenant_id text,
                        source text, metadata jsonb, expires_at timestamptz, run_at timestamptz, delay interval, ttl interval)
             ORDER BY a.i
        LOOP
            RETURN QUERY SELECT p.id, p."position", p.deduplicated
                FROM @extschema@.publish(e.type, e.data, publish_batch.topic, e.id, e.key, e.tenant_id, e.source,
                    nullif(e.metadata, 'null'), e.expires_at, e.run_at, e.delay, e.ttl) p;
        END LOOP;
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format('INSERT INTO @extschema@.%I AS t (type, source, key, tenant_id, data, metadata, expires_at)
        SELECT r.type, r.source, r.key, r.tenant_id, coalesce(r.data, ''null''), nullif(r.metadata, ''null''), r.expires_at
          FROM jsonb_array_elements($1) WITH ORDINALITY a(element, i),
               jsonb_to_record(a.element) AS r(type text, data jsonb, key text, tenant_id text, source text,
                    metadata jsonb, expires_at timestamptz)
         ORDER BY a.i
        RETURNING t.id, t."position", false', 'topic_' || publish_batch.topic) USING events;
END $$;
COMMENT ON FUNCTION @extschema@.publish_batch(jsonb, text) IS
    'Publish a JSON array of events, all or none, in order: objects with the fields type, data, id, key, tenant_id, source, metadata, expires_at, run_at, delay, ttl, as publish() takes them. Returns one row an event in the same order. Errors as publish(), with the index of the bad event in DETAIL.';
