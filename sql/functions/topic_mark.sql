CREATE OR REPLACE FUNCTION @extschema@.topic_mark(topic text) RETURNS text LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    number integer := @extschema@.topic_id_of(topic);
BEGIN
    -- a topic that was dropped and made again is another one
    RETURN left(md5((SELECT i.store_id FROM @extschema@.identity i) || (SELECT extract(epoch FROM t.created_at)::text
        FROM @extschema@.topics t WHERE t.topic_id = number)), 16);
END $$;
COMMENT ON FUNCTION @extschema@.topic_mark(text) IS 'Internal: what tells a topic of this store from all others.';
