CREATE OR REPLACE FUNCTION @extschema@.sync_outcomes(
        topic text, at bigint, since timestamptz, wait interval,
        OUT is_over boolean, OUT is_handled boolean, OUT outcomes jsonb, OUT pause double precision)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    waited interval := clock_timestamp() - since; -- before the look: one more after the time is up
BEGIN
    SELECT coalesce(bool_and(o.state NOT IN ('pending', 'processing', 'retrying') OR NOT o.active), true) OR waited >= wait,
           coalesce(bool_and(o.state IN ('completed', 'skipped') OR NOT o.active), true),
           coalesce(jsonb_agg(jsonb_build_object('subscription', o.subscription, 'state', o.state, 'active', o.active,
               'attempts', o.attempts, 'error', o.error)), '[]')
      INTO is_over, is_handled, outcomes
      FROM @extschema@.outcomes(NULL, sync_outcomes.topic, sync_outcomes.at) o WHERE o.mode = 'sync';
    pause := least(greatest(extract(epoch FROM waited) / 4, 0.002), 0.05, greatest(extract(epoch FROM wait - waited), 0));
END $$;
COMMENT ON FUNCTION @extschema@.sync_outcomes(text, bigint, timestamptz, interval) IS
    'Internal: one look of publish_and_wait(): is it over, have all sync subscriptions handled the event, what became of it, and for how many seconds to sleep.';
