-- What a statement of prepare_next() depends on is asked once for each epoch of a cursor, which it returns now.
DROP FUNCTION IF EXISTS @extschema@.prepare_next(bigint, bigint);
-- Who writes a lease has the range from a cursor that never goes back; to read, plan and set up this check was one part in forty of the
-- claim of a single event.
ALTER TABLE @extschema@.leases DROP CONSTRAINT lease_range;
