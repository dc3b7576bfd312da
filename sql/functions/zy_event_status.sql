CREATE OR REPLACE VIEW @extschema@.event_status AS
SELECT t.name AS topic, e."position", e.id, e.type::text AS type, e.tenant_id::text AS tenant_id, o.status, o.processed_at, o.retry_count,
       o.error_message, o.last_error_at, e.expires_at, e.created_at
  FROM @extschema@.events e
  JOIN @extschema@.topics t USING (topic_id)
 CROSS JOIN LATERAL (
    SELECT CASE WHEN count(*) = 0 THEN 'unhandled'
                WHEN bool_or(x.state = 'processing') THEN 'processing'
                WHEN bool_or(x.state = 'retrying') THEN 'retrying'
                WHEN bool_or(x.state = 'pending') THEN 'pending'
                WHEN bool_or(x.state = 'failed') THEN 'failed'
                WHEN bool_or(x.state = 'expired') THEN 'expired'
                ELSE 'completed' END AS status,
           CASE WHEN bool_and(x.ended_at IS NOT NULL) THEN max(x.ended_at) END AS processed_at,
           max(CASE WHEN x.attempts > 0 THEN x.attempts - 1 WHEN x.attempts = 0 THEN 0 END) AS retry_count,
           (array_agg(x.error ORDER BY x.last_error_at DESC NULLS LAST) FILTER (WHERE x.error IS NOT NULL))[1] AS error_message,
           max(x.last_error_at) AS last_error_at
      FROM @extschema@.outcomes(NULL, t.name, e."position") x) o;
COMMENT ON VIEW @extschema@.event_status IS
    'Events and what became of each over all subscriptions: outcomes() has them one by one. Ask for a topic and a position or a range of them: an id alone is searched for, locate() is faster. Shows every topic, so it is not granted to consumers.';
COMMENT ON COLUMN @extschema@.event_status.topic IS 'Name of the topic.';
COMMENT ON COLUMN @extschema@.event_status.status IS 'unhandled: no subscription wants it; processing, retrying or pending: something is left to do; failed or expired: for one subscription at least; else completed.';
COMMENT ON COLUMN @extschema@.event_status.processed_at IS 'When the last subscription ended; NULL: not all have, or it was not kept (track = none).';
COMMENT ON COLUMN @extschema@.event_status.retry_count IS 'Attempts after the first, of the subscription that needed most; NULL: none kept.';
COMMENT ON COLUMN @extschema@.event_status.error_message IS 'Last error of any subscription; NULL: none.';
COMMENT ON COLUMN @extschema@.event_status.last_error_at IS 'When that was.';

DO $$
DECLARE
    c record;
BEGIN
    FOR c IN SELECT v.attname, col_description(t.attrelid, t.attnum) AS words
               FROM pg_attribute v JOIN pg_attribute t ON t.attname = v.attname AND t.attrelid = '@extschema@.events'::regclass
              WHERE v.attrelid = '@extschema@.event_status'::regclass AND v.attnum > 0 AND col_description(v.attrelid, v.attnum) IS NULL
    LOOP
        EXECUTE format('COMMENT ON COLUMN @extschema@.event_status.%I IS %L', c.attname, c.words);
    END LOOP;
END $$;
