-- handout_query() looks for the keys itself.
DROP FUNCTION IF EXISTS @extschema@.blocked_among(bigint, text[]);
