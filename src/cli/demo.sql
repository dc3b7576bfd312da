-- What `trunkline demo` makes besides its topic: a schema of its own, with the SQL handler and its
-- tables. Everything of an earlier demo goes.
DO $$
BEGIN
    IF (SELECT obj_description(oid, 'pg_namespace') IS DISTINCT FROM 'made by trunkline demo'
          FROM pg_namespace WHERE nspname = 'trunkline_demo') THEN
        RAISE EXCEPTION 'schema trunkline_demo exists and was not made by the demo'
            USING HINT = 'Rename it, or use another database.';
    END IF;
END $$;
DROP SCHEMA IF EXISTS trunkline_demo CASCADE;
CREATE SCHEMA trunkline_demo;
COMMENT ON SCHEMA trunkline_demo IS 'made by trunkline demo';

CREATE TABLE trunkline_demo.demo_open_issues (repository text PRIMARY KEY, open bigint NOT NULL, events bigint NOT NULL);
CREATE TABLE trunkline_demo.issues (repository text, number bigint, is_open boolean NOT NULL, PRIMARY KEY (repository, number));
CREATE TABLE trunkline_demo.handled (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "position" bigint NOT NULL, latency_us bigint NOT NULL);

-- The handler. It counts (events + 1), so a second run for the same event would show.
CREATE FUNCTION trunkline_demo.on_issue(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    repo    text := event #>> '{data,repository,full_name}';
    nr      bigint := (event #>> '{data,issue,number}')::bigint;
    now_    boolean := event #>> '{data,action}' NOT IN ('closed', 'deleted', 'transferred');
    before_ boolean := coalesce((SELECT i.is_open FROM trunkline_demo.issues i WHERE (i.repository, i.number) = (repo, nr)), false);
BEGIN
    INSERT INTO trunkline_demo.issues VALUES (repo, nr, now_)
        ON CONFLICT (repository, number) DO UPDATE SET is_open = now_;
    INSERT INTO trunkline_demo.demo_open_issues AS o VALUES (repo, now_::int - before_::int, 1)
        ON CONFLICT (repository) DO UPDATE SET open = o.open + now_::int - before_::int, events = o.events + 1;
    INSERT INTO trunkline_demo.handled ("position", latency_us)
        VALUES ((event ->> 'position')::bigint,
                extract(epoch FROM clock_timestamp() - (event ->> 'created_at')::timestamptz) * 1000000);
END $$;
