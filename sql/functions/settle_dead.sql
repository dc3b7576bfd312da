CREATE OR REPLACE FUNCTION @extschema@.settle_dead(chosen bigint[], new_state text, note text, dry_run boolean) RETURNS bigint
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n bigint;
BEGIN
    IF octet_length(note) > 2000 THEN
        PERFORM @extschema@.fail('TL005', 'note is longer than 2000 bytes', '{"field": "note", "limit": 2000}');
    ELSIF dry_run IS NOT FALSE THEN
        RETURN cardinality(chosen);
    END IF;
    WITH picked AS MATERIALIZED (
        SELECT d.dead_letter_id FROM @extschema@.dead_letters d
         WHERE d.dead_letter_id = ANY (chosen) AND d.state = 'dead' ORDER BY d.dead_letter_id FOR UPDATE SKIP LOCKED
    )
    UPDATE @extschema@.dead_letters d
       SET state = new_state, settled_at = clock_timestamp(), settled_by = current_user, note = settle_dead.note
      FROM picked p WHERE d.dead_letter_id = p.dead_letter_id;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
COMMENT ON FUNCTION @extschema@.settle_dead(bigint[], text, text, boolean) IS 'Internal: the common end of discard() and resolve().';
