CREATE OR REPLACE FUNCTION @extschema@.parse_events(events jsonb, place integer[], streams text[], is_many boolean,
        OUT types text[], OUT data jsonb[], OUT metadata jsonb[], OUT ids uuid[], OUT sources text[], OUT keys text[], OUT expires timestamptz[])
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    e       record;
    field   text;
    problem text;
    texts   text[] := ARRAY['type', 'id', 'idempotency_key', 'source', 'key', 'expires_at'];
BEGIN
    BEGIN
        FOR e IN SELECT a.n, a.x FROM jsonb_array_elements(events) WITH ORDINALITY a(x, n) ORDER BY a.n LOOP
            field := 'events';
            problem := NULL;
            IF jsonb_typeof(e.x) <> 'object' THEN
                problem := 'not an object';
            ELSE
                SELECT k, CASE WHEN k <> ALL (texts) THEN format('unknown field "%s"', left(k, 60)) ELSE k || ' is not a string' END
                  INTO field, problem FROM jsonb_object_keys(e.x) k
                 WHERE k <> ALL (texts || '{data, metadata, schema_version}'::text[])
                    OR k = ANY (texts) AND jsonb_typeof(e.x -> k) NOT IN ('string', 'null')
                 ORDER BY k LIMIT 1;
                IF NOT FOUND THEN
                    field := 'id';
                    PERFORM (e.x ->> 'id')::uuid;
                    field := 'expires_at';
                    PERFORM (e.x ->> 'expires_at')::timestamptz;
                    IF jsonb_typeof(e.x -> 'metadata') NOT IN ('object', 'null') THEN
                        field := 'metadata';
                        problem := 'metadata is not a JSON object';
                    ELSIF coalesce(e.x -> 'schema_version', 'null') <> 'null'
                        AND (e.x ->> 'schema_version' ~ '^[1-9][0-9]{0,8}$' AND jsonb_typeof(e.x -> 'schema_version') = 'number') IS NOT TRUE
                    THEN
                        field := 'schema_version';
                        problem := 'schema_version is not a number from 1 to 999999999';
                    ELSIF octet_length(e.x ->> 'idempotency_key') NOT BETWEEN 1 AND 255 THEN
                        field := 'idempotency_key';
                        problem := 'idempotency_key is not 1 to 255 bytes';
                    ELSIF num_nonnulls(e.x ->> 'id', e.x ->> 'idempotency_key') = 2 THEN
                        field := 'idempotency_key';
                        problem := 'idempotency_key is given together with id';
                    END IF;
                END IF;
            END IF;
            IF problem IS NOT NULL THEN
                PERFORM @extschema@.fail('TL005', format('event %s of the append: %s', e.n - 1, problem),
                    jsonb_build_object('field', left(field, 60)) || @extschema@.event_place(e.n, place, streams, is_many));
            END IF;
        END LOOP;
    EXCEPTION WHEN data_exception THEN
        PERFORM @extschema@.fail('TL005', format('event %s of the append: %s', e.n - 1, SQLERRM),
            jsonb_build_object('field', field) || @extschema@.event_place(e.n, place, streams, is_many));
    END;
    SELECT array_agg(x ->> 'type' ORDER BY n), array_agg(x -> 'data' ORDER BY n),
           array_agg(CASE WHEN coalesce(x -> 'metadata', 'null') <> 'null' OR extra <> '{}' THEN coalesce(nullif(x -> 'metadata', 'null'), '{}') || extra END ORDER BY n),
           array_agg(coalesce((x ->> 'id')::uuid, @extschema@.key_id(streams[place[n]], x ->> 'idempotency_key')) ORDER BY n),
           array_agg(x ->> 'source' ORDER BY n), array_agg(x ->> 'key' ORDER BY n), array_agg((x ->> 'expires_at')::timestamptz ORDER BY n)
      INTO types, data, metadata, ids, sources, keys, expires
      FROM jsonb_array_elements(events) WITH ORDINALITY a(x, n),
           jsonb_strip_nulls(jsonb_build_object('schema_version', x -> 'schema_version', 'idempotency_key', x -> 'idempotency_key')) extra;
END $$;
COMMENT ON FUNCTION @extschema@.parse_events(jsonb, integer[], text[], boolean) IS
    'Internal: the events of append() and append_streams() as arrays; TL005 with the place of the first that is malformed.';
