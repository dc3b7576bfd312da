CREATE OR REPLACE FUNCTION @extschema@.backoff(first interval, longest interval, attempt integer) RETURNS interval
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    RETURN least(first * power(2, least(attempt - 1, 40)), longest) * (0.8 + 0.4 * random());
COMMENT ON FUNCTION @extschema@.backoff(interval, interval, integer) IS
    'Internal: pause after a failed attempt: first, doubling, at most longest, each within 20 % either way.';
