CREATE OR REPLACE FUNCTION @extschema@.parse_position_token(token text, OUT topic text, OUT "position" bigint) LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    part text[] := regexp_match(token, '^tl1[.]([a-z_][a-z0-9_]{0,39})[.](0|[1-9][0-9]{0,17})[.]([0-9a-f]{16})$');
BEGIN
    IF part IS NULL THEN
        PERFORM @extschema@.fail('TL005', 'token is malformed', '{"field": "token", "reason": "malformed"}',
            'A token is made by position_token(); its text is not changed.');
    ELSIF NOT EXISTS (SELECT FROM @extschema@.topics t WHERE t.name = part[1]) OR @extschema@.topic_mark(part[1]) <> part[3] THEN
        PERFORM @extschema@.fail('TL005', format('token is of another store, or of an earlier topic "%s"', part[1]),
            jsonb_build_object('field', 'token', 'reason', 'foreign', 'topic', part[1]));
    END IF;
    topic := part[1];
    "position" := part[2];
END $$;
COMMENT ON FUNCTION @extschema@.parse_position_token(text) IS
    'Topic and position of a position_token(). TL005 with reason malformed, or foreign: made by another store, or for a topic of that name that is gone.';
