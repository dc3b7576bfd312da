CREATE OR REPLACE FUNCTION @extschema@.track_ack(s @extschema@.subscriptions, l @extschema@.leases, upto bigint, failures jsonb)
    RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF jsonb_typeof(failures) <> 'array' THEN
        RETURN; -- record_failures() will say so
    END IF;
    WITH failed AS (
        SELECT CASE jsonb_typeof(f -> 'position') WHEN 'number' THEN trim_scale((f ->> 'position')::numeric)::text END AS "position", coalesce(f ->> 'verdict', 'retry') AS verdict, left(nullif(f ->> 'error', ''), 2000) AS error
          FROM jsonb_array_elements(failures) f),
    ended AS (
        SELECT d."position", d.attempts,
               CASE WHEN f.verdict IS NULL THEN 'completed'
                   WHEN f.verdict = 'skip' THEN 'skipped'
                   WHEN f.verdict = 'expired' THEN 'expired'
                   WHEN s.on_failure <> 'stop' AND (f.verdict = 'fail' OR f.verdict = 'retry' AND d.attempts >= s.max_attempts) THEN 'failed'
                   ELSE 'retrying' END AS state, f.error
          FROM @extschema@.deliveries d LEFT JOIN failed f ON f."position" = d."position"::text
         WHERE d.subscription_id = l.subscription_id AND d.state = 'processing' AND d."position" <= upto
           AND (EXISTS (SELECT FROM @extschema@.retries r WHERE r.token = l.token AND r."position" = d."position")
                OR d."position" > l.after AND d."position" <= l.upto AND NOT EXISTS (
                    SELECT FROM @extschema@.retries r WHERE r.subscription_id = l.subscription_id AND r."position" = d."position")))
    UPDATE @extschema@.deliveries d
       SET state = e.state, completed_at = CASE WHEN e.state <> 'retrying' THEN clock_timestamp() END,
           error_message = coalesce(e.error, d.error_message)
      FROM ended e
     WHERE d.subscription_id = l.subscription_id AND d."position" = e."position";
END $$;
COMMENT ON FUNCTION @extschema@.track_ack(@extschema@.subscriptions, @extschema@.leases, bigint, jsonb) IS
    'Internal: what becomes of the rows of deliveries that an ack() settles.';
