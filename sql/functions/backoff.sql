CREATE OR REPLACE FUNCTION @extschema@.backoff(first interval, longest interval, attempt integer) RETURNS interval
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    -- in seconds: an interval of days doubled often enough is out of range
    RETURN least(extract(epoch FROM first)::float8 * power(2::float8, least(attempt - 1, 40)), extract(epoch FROM longest)::float8)
        * (0.8 + 0.4 * random()) * interval '1 s';
COMMENT ON FUNCTION @extschema@.backoff(interval, interval, integer) IS
    'Internal: pause after a failed attempt: first, doubling, at most longest, each within 20 % either way.';
