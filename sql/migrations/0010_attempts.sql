-- Cheaper entries of the log of attempts: they come as arrays, and nobody but maintain() asks by age.

DROP FUNCTION IF EXISTS @extschema@.record_attempts(jsonb);
DROP FUNCTION IF EXISTS @extschema@.endpoint_failed(bigint, uuid, text, bigint, integer, boolean, integer, text);

DROP INDEX @extschema@.delivery_attempts_age;
CREATE INDEX delivery_attempts_age ON @extschema@.delivery_attempts USING brin (started_at) WITH (autosummarize = on);
COMMENT ON INDEX @extschema@.delivery_attempts_age IS 'maintain(): forget old ones. They come in order, near enough.';
