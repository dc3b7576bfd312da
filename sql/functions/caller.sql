-- Inside SECURITY DEFINER current_user is the owner. See docs/decisions/0008-append-checks-its-caller.md.
CREATE OR REPLACE FUNCTION @extschema@.caller() RETURNS text LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role') END;
END $$;
COMMENT ON FUNCTION @extschema@.caller() IS
    'Internal: the role of the session: that of SET ROLE, else who logged in; also inside SECURITY DEFINER functions.';
