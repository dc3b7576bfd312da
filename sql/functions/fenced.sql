CREATE OR REPLACE FUNCTION @extschema@.fenced(token uuid) RETURNS void LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM @extschema@.fail('TL004', format('lease %s is not held any more', token), jsonb_build_object('token', token),
        'It was settled, released, or another took it over after it expired; drop the batch.');
END $$;
COMMENT ON FUNCTION @extschema@.fenced(uuid) IS 'Internal: raise TL004 for a token that is stale.';
