-- The one text of which dead letters a filter means. The state stands in the query as a constant, so
-- that the index of those that nobody has dealt with is of use.
CREATE OR REPLACE FUNCTION @extschema@.dead_matching(
        ids bigint[], subscription text, pattern text, reason text, since timestamptz, until timestamptz, tenant_id text,
        state text, after bigint, max_events integer)
    RETURNS SETOF bigint LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    missing bigint;
    wrong   text;
BEGIN
    wrong := CASE
        WHEN @extschema@.pattern_problem(coalesce(pattern, '**')) IS NOT NULL THEN 'pattern'
        WHEN reason <> ALL ('{max_attempts,rejected,crashed,expired,skipped}') THEN 'reason'
        WHEN state <> ALL ('{dead,redriven,discarded,resolved}') THEN 'state'
        WHEN until <= since THEN 'until'
        WHEN coalesce(max_events NOT BETWEEN 1 AND 100000, true) THEN 'max_events' END;
    IF wrong IS NOT NULL THEN
        PERFORM @extschema@.fail('TL005', CASE wrong
                WHEN 'pattern' THEN 'pattern ' || @extschema@.pattern_problem(pattern)
                WHEN 'reason' THEN 'reason is not max_attempts, rejected, crashed, expired or skipped'
                WHEN 'state' THEN 'state is not dead, redriven, discarded or resolved'
                WHEN 'until' THEN 'until is not after since'
                ELSE 'max_events is not 1 to 100000' END,
            jsonb_build_object('field', wrong) || CASE wrong WHEN 'max_events' THEN '{"limit": 100000}' ELSE '{}' END::jsonb);
    END IF;
    SELECT i INTO missing FROM unnest(ids) i
     WHERE NOT EXISTS (SELECT FROM @extschema@.dead_letters d WHERE d.dead_letter_id = i) ORDER BY i LIMIT 1;
    IF FOUND THEN
        PERFORM @extschema@.fail('TL002', format('dead letter %s does not exist', missing), jsonb_build_object('field', 'ids', 'value', missing));
    ELSIF subscription IS NOT NULL AND NOT EXISTS (SELECT FROM @extschema@.subscriptions s WHERE s.name = subscription)
        AND NOT EXISTS (SELECT FROM @extschema@.dead_letters d WHERE d.subscription = dead_matching.subscription)
    THEN
        PERFORM @extschema@.fail('TL002', format('subscription "%s" does not exist and has no dead letters', left(subscription, 255)),
            '{"field": "subscription"}');
    END IF;
    RETURN QUERY EXECUTE 'SELECT d.dead_letter_id FROM @extschema@.dead_letters d WHERE d.dead_letter_id > coalesce($9, 0)'
            || CASE WHEN state IS NULL THEN '' ELSE format(' AND d.state = %L', state) END
            || CASE WHEN ids IS NULL THEN '' ELSE ' AND d.dead_letter_id = ANY ($1)' END
            || CASE WHEN subscription IS NULL THEN '' ELSE ' AND d.subscription = $2' END
            || CASE WHEN coalesce(pattern, '**') IN ('*', '**') THEN '' ELSE ' AND d.event ->> ''type'' ~ $3' END
            || CASE WHEN reason IS NULL THEN '' ELSE ' AND d.reason = $4' END
            || CASE WHEN since IS NULL THEN '' ELSE ' AND d.dead_at >= $5' END
            || CASE WHEN until IS NULL THEN '' ELSE ' AND d.dead_at < $6' END
            || CASE WHEN tenant_id IS NULL THEN '' ELSE ' AND d.event ->> ''tenant_id'' = $7' END
            || ' ORDER BY d.dead_letter_id LIMIT $8'
        USING ids, subscription, @extschema@.pattern_regex(coalesce(pattern, '**')), reason, since, until, tenant_id, max_events, after;
END $$;
COMMENT ON FUNCTION @extschema@.dead_matching(bigint[], text, text, text, timestamptz, timestamptz, text, text, bigint, integer) IS
    'Internal: numbers of the dead letters that a filter means, ascending; NULL conditions do not count. TL002 unknown number or subscription, TL005.';
