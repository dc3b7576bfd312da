CREATE OR REPLACE FUNCTION @extschema@.dead_show(dead_letter_id bigint) RETURNS @extschema@.dead_letters
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    d @extschema@.dead_letters;
BEGIN
    SELECT x.* INTO d FROM @extschema@.dead_letters x WHERE x.dead_letter_id = dead_show.dead_letter_id;
    IF NOT FOUND THEN
        PERFORM @extschema@.fail('TL002', format('dead letter %s does not exist', dead_show.dead_letter_id), '{"field": "dead_letter_id"}');
    END IF;
    RETURN d;
END $$;
COMMENT ON FUNCTION @extschema@.dead_show(bigint) IS 'One dead letter with its event and the errors of its attempts. TL002.';
