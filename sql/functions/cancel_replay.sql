CREATE OR REPLACE FUNCTION @extschema@.cancel_replay(replay_id bigint) RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM @extschema@.replays p WHERE p.replay_id = cancel_replay.replay_id;
    IF NOT FOUND THEN
        PERFORM @extschema@.fail('TL002', format('replay %s does not exist or has ended', replay_id), '{"field": "replay_id"}');
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.cancel_replay(bigint) IS
    'End a replay: nothing more of it is handed out; what is in flight or waits for a retry goes on. TL002 when there is none.';
