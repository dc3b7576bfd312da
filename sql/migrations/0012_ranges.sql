-- claim_many() gives leases of ranges without their events: it has one more argument, and makes the old one ambiguous.
DROP FUNCTION IF EXISTS @extschema@.claim_many(bigint[], integer[], interval, text, boolean);
