CREATE OR REPLACE FUNCTION @extschema@.local_moment(local_time timestamp, timezone text) RETURNS timestamptz
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    as_utc timestamptz := local_time AT TIME ZONE 'UTC';
    -- read with the offsets of the day before and of the day after
    one    timestamptz := as_utc - (((as_utc - interval '24 h') AT TIME ZONE timezone) - ((as_utc - interval '24 h') AT TIME ZONE 'UTC'));
    other  timestamptz := as_utc - (((as_utc + interval '24 h') AT TIME ZONE timezone) - ((as_utc + interval '24 h') AT TIME ZONE 'UTC'));
    low    bigint;
    high   bigint;
    middle bigint;
BEGIN
    IF one = other OR least(one, other) AT TIME ZONE timezone = local_time THEN
        RETURN least(one, other);
    ELSIF greatest(one, other) AT TIME ZONE timezone = local_time THEN
        RETURN greatest(one, other);
    END IF;
    -- clocks were put forward over it: the moment when they were, to the second
    low := floor(extract(epoch FROM least(one, other)));
    high := ceil(extract(epoch FROM greatest(one, other)));
    WHILE high - low > 1 LOOP
        middle := (low + high) / 2;
        IF to_timestamp(middle) AT TIME ZONE timezone < local_time THEN
            low := middle;
        ELSE
            high := middle;
        END IF;
    END LOOP;
    RETURN to_timestamp(high);
END $$;
COMMENT ON FUNCTION @extschema@.local_moment(timestamp, text) IS
    'Internal: when a local time is. One that occurs twice: the first time. One that is passed over when clocks are put forward: the moment when they are.';
