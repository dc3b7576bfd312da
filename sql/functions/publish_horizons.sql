-- The horizon is known before it is written, and what it promises was committed before that: so on a
-- standby the row never arrives ahead of the events.
CREATE OR REPLACE FUNCTION @extschema@.publish_horizons() RETURNS integer LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ids  integer[];
    seqs regclass[];
    hs   bigint[];
    n    integer;
BEGIN
    SELECT array_agg(t.topic_id ORDER BY t.topic_id), array_agg(('@extschema@.position_' || t.name)::regclass ORDER BY t.topic_id)
      INTO ids, seqs FROM @extschema@.topics t WHERE t.durability = 'logged';
    hs := @extschema@.register_horizons(seqs);
    INSERT INTO @extschema@.horizons AS h (topic_id, "position")
        SELECT u.id, u.h FROM unnest(ids, hs[:cardinality(ids)]) u(id, h)
        ON CONFLICT (topic_id) DO UPDATE SET "position" = excluded."position", published_at = clock_timestamp()
         WHERE h."position" < excluded."position";
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
COMMENT ON FUNCTION @extschema@.publish_horizons() IS
    'Write the safe horizon of every topic down for readers of standbys; returns how many moved. maintain() does it, and trunkline serve once a second. Needs the owner of the schema.';
