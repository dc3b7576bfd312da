-- One way to raise: DETAIL is a JSON object for programs, HINT the next step.
CREATE OR REPLACE FUNCTION @extschema@.fail(code text, message text, detail jsonb DEFAULT '{}', hint text DEFAULT '')
    RETURNS void LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = detail::text, HINT = hint;
END $$;
COMMENT ON FUNCTION @extschema@.fail(text, text, jsonb, text) IS
    'Internal: raise SQLSTATE code with message, DETAIL as JSON and HINT.';
