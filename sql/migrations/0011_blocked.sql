-- A claim beside blocked keys asks for each event whether its key is among them: by bytes, not by the rules of a
-- language. zy_views.sql makes the view again.
DROP VIEW IF EXISTS @extschema@.blocked_keys;
ALTER TABLE @extschema@.retries ALTER COLUMN key TYPE text COLLATE "C";
