CREATE OR REPLACE FUNCTION @extschema@.read_links(name text, after bigint DEFAULT 0, max_events integer DEFAULT 100, tenant text DEFAULT NULL)
    RETURNS SETOF @extschema@.linked_event LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    l   record;
    e   @extschema@.stored_event;
    r   @extschema@.linked_event;
    n   integer := 0;
    top bigint := 9223372036854775807;
BEGIN
    PERFORM @extschema@.check_read(read_links.max_events, after => read_links.after);
    FOR l IN SELECT x."position", x.event_position, x.event_id, x.linked_at, (SELECT t.name FROM @extschema@.topics t WHERE t.topic_id = x.topic_id) AS topic
               FROM @extschema@.links x WHERE x.name = read_links.name AND x."position" > coalesce(read_links.after, 0) ORDER BY x."position"
    LOOP
        e := NULL;
        IF pg_is_in_recovery() THEN
            top := @extschema@.horizon(l.topic);
        END IF;
        IF l.topic = 'store' THEN
            SELECT x."position", x.id, x.type, x.source, x.stream, x.version, x.key, x.tenant_id, x.data, x.metadata, x.expires_at, x.created_at
              INTO e FROM @extschema@.topic_store x WHERE x."position" = l.event_position AND x.id = l.event_id AND x."position" <= top;
        ELSIF l.topic IS NOT NULL THEN
            EXECUTE format('SELECT x."position", x.id, x.type, x.source, x.stream, x.version, x.key, x.tenant_id, x.data, x.metadata, x.expires_at, x.created_at
                FROM @extschema@.%I x WHERE x."position" = $1 AND x.id = $2 AND x."position" <= $3', 'topic_' || l.topic)
                INTO e USING l.event_position, l.event_id, top;
        END IF;
        CONTINUE WHEN NOT coalesce(e.tenant_id = read_links.tenant, read_links.tenant IS NULL);
        r := ROW(l."position", l.linked_at, l.topic, l.event_id, e.*);
        RETURN NEXT r;
        n := n + 1;
        EXIT WHEN n = read_links.max_events;
    END LOOP;
END $$;
COMMENT ON FUNCTION @extschema@.read_links(text, bigint, integer, text) IS
    'Events of a named stream, see link(), after a position there (column link). tenant: only its events, NULL all. max_events: 1 to 10000. An event that retention has dropped leaves its link behind: link and event_id alone. No row: no such stream, or nothing after. 42501: an event of a topic that one may not read.';
