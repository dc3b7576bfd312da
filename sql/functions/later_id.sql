-- UUID version 7 as next_id() makes them, but all of rand_b is random: there is no position yet.
CREATE OR REPLACE FUNCTION @extschema@.later_id(topic_id integer) RETURNS uuid LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    random_part text := replace(gen_random_uuid()::text, '-', '');
BEGIN
    RETURN (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
        || to_hex(28672 | topic_id) || substr(random_part, 17))::uuid;
END $$;
COMMENT ON FUNCTION @extschema@.later_id(integer) IS
    'Internal: id of an event that has no position yet: UUID version 7 with topic_id in rand_a.';
