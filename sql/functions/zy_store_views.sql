CREATE OR REPLACE VIEW @extschema@.aggregates WITH (security_barrier) AS
SELECT t.name AS topic, s.stream::text AS stream, split_part(s.stream, '-', 1) AS aggregate_type,
       CASE WHEN strpos(s.stream, '-') > 0 THEN substr(s.stream, strpos(s.stream, '-') + 1) ELSE '' END AS aggregate_id,
       s.version AS current_version, s.tenant_id::text AS tenant_id, s.state::text AS state, s.created_at, s.updated_at
  FROM @extschema@.topics t JOIN @extschema@.streams s USING (topic_id)
 -- the rights of who asks, since those of a view's tables are its owner's
 WHERE has_column_privilege('@extschema@.topic_' || t.name, 'stream', 'SELECT')
    OR has_column_privilege('@extschema@.topic_' || t.name, 'stream', 'REFERENCES');
COMMENT ON VIEW @extschema@.aggregates IS 'Streams as aggregates: stream order-42 is aggregate 42 of type order. Of the topics that one may read or append to.';
COMMENT ON COLUMN @extschema@.aggregates.topic IS 'Name of the topic.';
COMMENT ON COLUMN @extschema@.aggregates.stream IS 'Name of the stream.';
COMMENT ON COLUMN @extschema@.aggregates.aggregate_type IS 'What is before the first dash: the category.';
COMMENT ON COLUMN @extschema@.aggregates.aggregate_id IS 'What is behind it; empty without a dash.';
COMMENT ON COLUMN @extschema@.aggregates.current_version IS 'Version of the last event; 0: none yet.';
COMMENT ON COLUMN @extschema@.aggregates.tenant_id IS 'Tenant; NULL: system.';
COMMENT ON COLUMN @extschema@.aggregates.state IS 'open, deleted or tombstone.';
COMMENT ON COLUMN @extschema@.aggregates.created_at IS 'When it was made.';
COMMENT ON COLUMN @extschema@.aggregates.updated_at IS 'When it last changed.';
