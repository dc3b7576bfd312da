-- Headers are lines: whatever could end one, or say twice what the daemon says itself, stays out.
CREATE OR REPLACE FUNCTION @extschema@.headers_problem(headers jsonb) RETURNS text LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE
        WHEN jsonb_typeof(headers) <> 'object' THEN 'is not an object of names and texts'
        WHEN (SELECT count(*) FROM jsonb_object_keys(headers)) > 50 THEN 'has more than 50 headers'
        ELSE (SELECT CASE
                  WHEN h.key !~ '^[!#$%&''*+.^_`|~0-9A-Za-z-]{1,128}$' THEN 'has a name that is no token of at most 128 characters'
                  WHEN lower(h.key) ~ '^(host|content-(length|type|encoding)|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect|user-agent|proxy-.*|webhook-.*|ce-.*|http2-settings)$'
                      THEN format('has %s, which is reserved', lower(h.key))
                  WHEN jsonb_typeof(h.value) <> 'string' THEN format('has %s, which is no text', h.key)
                  WHEN h.value #>> '{}' ~ E'[\x01-\x08\x0a-\x1f\x7f]' THEN format('has %s with a control character', h.key)
                  WHEN octet_length(h.value #>> '{}') NOT BETWEEN 1 AND 4096 OR h.value #>> '{}' !~ E'[^ \t]'
                      THEN format('has %s of not 1 to 4096 bytes', h.key) END
                FROM jsonb_each(headers) h
               ORDER BY 1 LIMIT 1) END; -- NULL last
END $$;
COMMENT ON FUNCTION @extschema@.headers_problem(jsonb) IS 'Internal: why the headers option of a webhook is refused; NULL: it is fine.';
