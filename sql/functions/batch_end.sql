CREATE OR REPLACE FUNCTION @extschema@.batch_end(topic text, after bigint, upto bigint, events integer) RETURNS bigint
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found bigint;
BEGIN
    EXECUTE format('SELECT e."position" FROM @extschema@.%I e WHERE e."position" > $1 AND e."position" <= $2 ORDER BY e."position" OFFSET $3 - 1 LIMIT 1',
            'topic_' || topic)
        INTO found USING after, upto, events;
    RETURN coalesce(found, upto);
END $$;
COMMENT ON FUNCTION @extschema@.batch_end(text, bigint, bigint, integer) IS
    'Internal: how far so many events of a topic in (after, upto] reach.';
