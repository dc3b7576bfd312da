-- handout_query() and blocked_among() have taken their place.
DROP FUNCTION IF EXISTS @extschema@.handout_condition(@extschema@.subscriptions, boolean, boolean);
DROP FUNCTION IF EXISTS @extschema@.blocked_by();
