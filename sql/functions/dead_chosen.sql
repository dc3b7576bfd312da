CREATE OR REPLACE FUNCTION @extschema@.dead_chosen(
        ids bigint[], subscription text, pattern text, reason text, since timestamptz, until timestamptz, tenant_id text,
        max_events integer)
    RETURNS bigint[] LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF num_nonnulls(ids, subscription, pattern, reason, since, until, tenant_id) = 0 THEN
        PERFORM @extschema@.fail('TL005', 'no condition says which dead letters are meant', '{"field": "ids"}',
            'Give ids or a condition; pattern => ''**'' is all of them.');
    END IF;
    RETURN ARRAY(SELECT @extschema@.dead_matching(ids, subscription, pattern, reason, since, until, tenant_id, 'dead', 0, max_events));
END $$;
COMMENT ON FUNCTION @extschema@.dead_chosen(bigint[], text, text, text, timestamptz, timestamptz, text, integer) IS
    'Internal: dead_matching() for what changes them: those that nobody has dealt with, and at least one condition. TL005.';
