CREATE OR REPLACE FUNCTION @extschema@.conflict(stream text, expected bigint, actual bigint, reason text, index integer DEFAULT NULL)
    RETURNS void LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wish text := CASE expected WHEN 0 THEN 'no_stream' WHEN -1 THEN 'exists' ELSE coalesce(expected::text, 'any') END;
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'TL001',
        MESSAGE = CASE reason
            WHEN 'tombstone' THEN format('stream "%s" was deleted for ever', stream)
            WHEN 'deleted' THEN format('stream "%s" was deleted at version %s, expected %s', stream, actual, wish)
            ELSE format('stream "%s" is at version %s, expected %s', stream, actual, wish) END,
        DETAIL = jsonb_build_object('stream', stream, 'expected', CASE WHEN expected > 0 THEN to_jsonb(expected) ELSE to_jsonb(wish) END,
            'actual', actual, 'reason', reason) || CASE WHEN index IS NULL THEN '{}' ELSE jsonb_build_object('index', index) END,
        HINT = CASE reason WHEN 'tombstone' THEN 'Use another stream.' ELSE 'Read the stream again and decide anew.' END;
END $$;
COMMENT ON FUNCTION @extschema@.conflict(text, bigint, bigint, text, integer) IS
    'Internal: TL001 for a stream that is not as expected: expected and actual version and reason (version, deleted, tombstone) in DETAIL.';
