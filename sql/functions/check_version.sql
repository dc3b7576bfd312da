CREATE OR REPLACE FUNCTION @extschema@.check_version(stream text, version bigint, newest bigint) RETURNS void LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(version NOT BETWEEN 0 AND newest, true) THEN
        PERFORM @extschema@.fail('TL005', format('version %s is not in stream "%s", which ends with %s', coalesce(version::text, 'NULL'), stream, newest),
            jsonb_build_object('field', 'after', 'lowest', 0, 'highest', newest),
            CASE WHEN version > newest THEN 'The log lost its end, by a failover or a restore: decide where to go on.' ELSE '' END);
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.check_version(text, bigint, bigint) IS
    'Internal: TL005 for a reader of a stream that is beyond its end.';
