/*
 * bench_place.c: the topic and the schema that `trunkline bench` writes to and drops again.
 */
#include <string.h>

#include "bench.h"
#include "cleanup.h"
#include "out.h"

#define COMMENT "made by trunkline bench; dropped by it or by trunkline bench --clean"

struct state {
    bool is_locked, has_schema, is_ours, has_topic, may_create;
};

static bool is_true(const PGresult *r, int column)
{
    return *PQgetvalue(r, 0, column) == 't';
}

/* Takes the lock that keeps a second bench out, until the session ends. */
static int look(struct tl__db *db, struct state *ret)
{
    int rc = 0;
    TL_CLEANUP(tl__pgclearp)
    PGresult *r = tl__db_query(
        db, &rc,
        "SELECT pg_try_advisory_lock(hashtext('trunkline.bench')), "
        "n.oid IS NOT NULL, coalesce(obj_description(n.oid, 'pg_namespace') = $1, false), "
        "EXISTS (SELECT FROM @schema@.topics WHERE name = '" TL__BENCH_TOPIC "'), "
        "has_database_privilege(current_database(), 'CREATE') AND "
        "(SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = $2) "
        "FROM (VALUES (1)) one LEFT JOIN pg_namespace n ON n.nspname = '" TL__BENCH_SCHEMA "'",
        2, (const char *const[]){COMMENT, db->schema});

    if (!r)
        return rc;
    *ret = (struct state){.is_locked = is_true(r, 0),
                          .has_schema = is_true(r, 1),
                          .is_ours = is_true(r, 2),
                          .has_topic = is_true(r, 3),
                          .may_create = is_true(r, 4)};
    if (!ret->is_locked)
        return tl__fail(TL_E_CONFLICT, NULL, "another bench is running on this database");
    if (ret->has_schema && !ret->is_ours)
        return tl__fail(TL_E_CONFLICT, "rename it, or measure in another database",
                        "there is a schema " TL__BENCH_SCHEMA
                        " that was not made by trunkline bench");
    if (ret->has_topic && !ret->is_ours)
        return tl__fail(TL_E_CONFLICT, "measure in another database",
                        "there is a topic " TL__BENCH_TOPIC
                        " that was not made by trunkline bench");
    return 0;
}

int tl__bench_place_drop(struct tl__db *db)
{
    int rc = 0;

    PQclear(tl__db_query(
        db, &rc,
        "DO $$ BEGIN PERFORM @schema@.drop_topic(name, true) FROM @schema@.topics WHERE name = "
        "'" TL__BENCH_TOPIC "'; DROP SCHEMA IF EXISTS " TL__BENCH_SCHEMA " CASCADE; END $$",
        0, NULL));
    if (rc)
        tl__note("left in the database: topic " TL__BENCH_TOPIC " and schema " TL__BENCH_SCHEMA
                 "; trunkline bench --clean drops them");
    return rc;
}

int tl__bench_place_clean(struct tl__db *db)
{
    struct state state = {0};
    int rc = look(db, &state);

    if (rc)
        return rc;
    if (!state.is_ours) {
        puts("nothing to drop");
        return 0;
    }
    if ((rc = tl__bench_place_drop(db)) == 0)
        puts("dropped topic " TL__BENCH_TOPIC " and schema " TL__BENCH_SCHEMA);
    return rc;
}

/* A row that costs the same: every column of an event, one primary key, an identity. */
static const char make_sql[] =
    "DO $$ BEGIN CREATE SCHEMA " TL__BENCH_SCHEMA "; "
    "CREATE TABLE " TL__BENCH_SCHEMA ".bare (topic_id integer NOT NULL DEFAULT 1, "
    "\"position\" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "id uuid NOT NULL DEFAULT gen_random_uuid(), type text NOT NULL, source text, stream text, "
    "version bigint, key text, tenant_id text, data jsonb NOT NULL, metadata jsonb, "
    "expires_at timestamptz, created_at timestamptz NOT NULL DEFAULT clock_timestamp()); "
    "PERFORM @schema@.create_topic('" TL__BENCH_TOPIC "'); END $$";

static const char comment_sql[] = "COMMENT ON SCHEMA " TL__BENCH_SCHEMA " IS '" COMMENT "'";
static const char subscribe_sql[] =
    "SELECT @schema@.subscribe('" TL__BENCH_SUBSCRIPTION "', '**', topic => '" TL__BENCH_TOPIC "')";

static int make(struct tl__db *db, bool has_consumer)
{
    const char *const steps[] = {"BEGIN", make_sql, comment_sql,
                                 has_consumer ? subscribe_sql : "SELECT", "COMMIT"};
    int rc = 0, ignored = 0;

    for (size_t i = 0; rc == 0 && i < sizeof steps / sizeof *steps; i++)
        PQclear(tl__db_query(db, &rc, steps[i], 0, NULL));
    if (rc)
        PQclear(tl__db_query(db, &ignored, "ROLLBACK", 0, NULL));
    return rc;
}

int tl__bench_place_make(struct tl__db *db, bool has_consumer)
{
    struct state state = {0};
    int rc = look(db, &state);

    if (rc)
        return rc;
    if (!state.may_create)
        return tl__fail(TL_E_DENIED,
                        "it takes CREATE on the database and the role that owns Trunkline's "
                        "schema; in a database of its own: createdb bench, trunkline migrate",
                        "this role may not make the topic and the schema that bench writes to");
    if (state.is_ours) {
        tl__note("an earlier bench did not end: dropping what it left");
        if ((rc = tl__bench_place_drop(db)))
            return rc;
    }
    return make(db, has_consumer);
}
