-- Operating subscriptions and dead letters.
DROP FUNCTION IF EXISTS @extschema@.unsubscribe(text);
DROP FUNCTION IF EXISTS @extschema@.start_cursor(text, text);

CREATE INDEX dead_letters_settled ON @extschema@.dead_letters (settled_at) WHERE state <> 'dead';
COMMENT ON INDEX @extschema@.dead_letters_settled IS 'maintain(): forget those dealt with long ago.';

CREATE TYPE @extschema@.dead_letter AS (
    dead_letter_id bigint, subscription text, topic text, "position" bigint, id uuid, type text, key text, tenant_id text,
    reason text, attempts integer, error_message text, dead_at timestamptz, state text, settled_at timestamptz,
    settled_by text, note text
);
COMMENT ON TYPE @extschema@.dead_letter IS 'A row of dead_letters without the payload, as dead_list() gives it.';
