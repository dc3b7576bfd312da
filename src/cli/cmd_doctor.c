/*
 * cmd_doctor.c: trunkline doctor: is everything as it should be, and if not, what to do.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "cleanup.h"
#include "commands.h"
#include "database.h"
#include "json.h"
#include "out.h"

struct report {
    struct tl__table *table;
    struct tl__buf json;
    bool is_failed;
};

/* state: "ok", "note" or "fail" */
static void add(struct report *r, const char *check, const char *state, const char *text)
{
    tl__table_add(r->table, (const char *const[]){check, state, text});
    tl__buf_add_char(&r->json, '{');
    tl__json_add_name(&r->json, "check");
    tl__json_add_text(&r->json, check);
    tl__json_add_name(&r->json, "state");
    tl__json_add_text(&r->json, state);
    tl__json_add_name(&r->json, "detail");
    tl__json_add_text(&r->json, text);
    tl__buf_add_str(&r->json, "}\n");
    r->is_failed = r->is_failed || strcmp(state, "fail") == 0;
}

static void addf(struct report *r, const char *check, const char *state, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static void addf(struct report *r, const char *check, const char *state, const char *format, ...)
{
    char text[1024];
    va_list list;

    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    add(r, check, state, text);
}

static void check_server(struct report *r, struct tl__db *db)
{
    PGconn *conn = tl_client_pgconn(db->client);
    int version = PQserverVersion(conn);

    addf(r, "database", "ok", "%s (from %s)", *db->shown ? db->shown : "libpq defaults",
         db->source_name);
    addf(r, "server", version >= 140000 ? "ok" : "fail", "PostgreSQL %s%s",
         PQparameterStatus(conn, "server_version"),
         version >= 140000 ? "" : "; 14 is the oldest that works");
    if (db->embedded)
        addf(r, "embedded", "ok", "%s, pid %ld", tl__embedded_dir(db->embedded),
             (long)tl__embedded_server_pid(db->embedded));
}

static bool check_schema(struct report *r, struct tl__db *db)
{
    tl_migrate_state state;
    tl_status status = tl_migrate_status(db->client, NULL, NULL, &state);

    if (status < 0) {
        add(r, "schema", "fail", tl_error_message(tl_client_error(db->client)));
        return false;
    }
    switch (state) {
    case TL_MIGRATE_CURRENT:
        addf(r, "schema", "ok", "%s is current", db->schema);
        return true;
    case TL_MIGRATE_MISSING:
        addf(r, "schema", "fail", "there is no schema %s: run trunkline migrate", db->schema);
        return false;
    case TL_MIGRATE_PENDING:
        addf(r, "schema", "fail", "%s is older than this program: run trunkline migrate",
             db->schema);
        return false;
    case TL_MIGRATE_NEWER:
        addf(r, "schema", "fail", "%s is newer than this program: use a newer one", db->schema);
        return false;
    default:
        addf(r, "schema", "fail", "%s was changed by hand: see trunkline migrate verify",
             db->schema);
        return false;
    }
}

static int check_verify(struct report *r, struct tl__db *db)
{
    if (tl_migrate_verify(db->client) == TL_OK)
        add(r, "functions", "ok", "as this program installs them");
    else
        add(r, "functions", "fail", tl_error_message(tl_client_error(db->client)));
    return 0;
}

static int check_listeners(struct report *r, struct tl__db *db)
{
    int rc = 0;
    TL_CLEANUP(tl__pgclearp)
    PGresult *rows = tl__db_query(
        db, &rc, "SELECT attempt FROM @schema@.claim_many('{}', '{}') LIMIT 1", 0, NULL);

    if (rows && PQntuples(rows) == 1) {
        const char *count = PQgetvalue(rows, 0, 0);
        addf(r, "listeners", "ok", "%s worker%s or waiter%s", count, strcmp(count, "1") ? "s" : "",
             strcmp(count, "1") ? "s" : "");
    }
    return rc;
}

static int check_horizon(struct report *r, struct tl__db *db)
{
    int rc = 0;
    TL_CLEANUP(tl__pgclearp)
    PGresult *rows =
        tl__db_query(db, &rc,
                     "SELECT topic, pid, application_name, state, date_trunc('second', age), "
                     "       coalesce(age > interval '10 s', true) "
                     "FROM @schema@.horizon_holders ORDER BY age DESC NULLS FIRST LIMIT 20",
                     0, NULL);

    if (!rows)
        return rc;
    for (int i = 0; i < PQntuples(rows); i++)
        addf(r, "horizon", *PQgetvalue(rows, i, 5) == 't' ? "note" : "ok",
             "topic %s waits for pid %s (%s, %s, open for %s)", PQgetvalue(rows, i, 0),
             PQgetisnull(rows, i, 1) ? "-" : PQgetvalue(rows, i, 1), PQgetvalue(rows, i, 2),
             PQgetisnull(rows, i, 3) ? "state not visible" : PQgetvalue(rows, i, 3),
             PQgetisnull(rows, i, 4) ? "unknown time: ask for pg_read_all_stats"
                                     : PQgetvalue(rows, i, 4));
    if (PQntuples(rows) == 0)
        add(r, "horizon", "ok", "no open transaction holds readers back");
    return 0;
}

static int check_subscriptions(struct report *r, struct tl__db *db)
{
    int rc = 0;
    TL_CLEANUP(tl__pgclearp)
    PGresult *rows =
        tl__db_query(db, &rc,
                     "SELECT count(*), coalesce(sum(retrying), 0), coalesce(sum(dead), 0) "
                     "FROM @schema@.subscription_status",
                     0, NULL);

    if (rows)
        addf(r, "subscriptions", strcmp(PQgetvalue(rows, 0, 2), "0") ? "note" : "ok",
             "%s, %s events retrying, %s dead letters", PQgetvalue(rows, 0, 0),
             PQgetvalue(rows, 0, 1), PQgetvalue(rows, 0, 2));
    return rc;
}

static int check_webhooks(struct report *r, struct tl__db *db)
{
    int rc = 0;
    TL_CLEANUP(tl__pgclearp)
    PGresult *rows = tl__db_query(
        db, &rc,
        "SELECT name, problem, count(*) OVER () FROM (SELECT name, CASE WHEN disabled_at IS NOT "
        "NULL AND NOT active THEN pause_reason "
        "WHEN breaker <> 'closed' THEN 'fails since ' || date_trunc('second', failing_since) || "
        "': ' || coalesce(last_error, '') "
        "WHEN secrets = 0 THEN 'requests to it are not signed: see trunkline webhook secret "
        "create' END AS problem FROM @schema@.webhook_status) w "
        "ORDER BY problem IS NULL, name LIMIT 20",
        0, NULL);

    if (!rows)
        return rc;
    if (PQntuples(rows) == 0 || PQgetisnull(rows, 0, 1))
        addf(r, "webhooks", "ok", "%s", PQntuples(rows) ? PQgetvalue(rows, 0, 2) : "0");
    for (int i = 0; i < PQntuples(rows) && !PQgetisnull(rows, i, 1); i++)
        addf(r, "webhooks", "note", "%s: %s", PQgetvalue(rows, i, 0), PQgetvalue(rows, i, 1));
    return 0;
}

static int examine(struct report *r, struct tl__db *db)
{
    static int (*const checks[])(struct report *, struct tl__db *) = {
        check_verify, check_listeners, check_horizon, check_subscriptions, check_webhooks};
    int rc = 0;

    check_server(r, db);
    if (!check_schema(r, db))
        return 0;
    for (size_t i = 0; i < sizeof checks / sizeof *checks && rc == 0; i++)
        rc = checks[i](r, db);
    return rc;
}

static int run(struct tl__args *args)
{
    TL_CLEANUP(tl__db_close)
    struct tl__db db = TL__DB_INIT;
    struct report report = {
        .table = tl__table_new(3, (const char *const[]){"check", "state", "detail"}),
    };
    int rc = tl__db_open_unchecked(args, &db);

    if (rc == 0 && db.embedded)
        rc = tl__db_migrate(&db);
    if (rc == 0)
        rc = examine(&report, &db);
    if (tl__args_has(args, "json") && report.json.data)
        fputs(report.json.data, stdout);
    else if (!tl__args_has(args, "json") && report.json.len > 0)
        tl__table_print(report.table, stdout);
    tl__table_free(report.table);
    tl__buf_done(&report.json);
    return rc ? rc : report.is_failed ? tl_status_exit_code(TL_E_SCHEMA) : 0;
}

const struct tl__command tl__cmd_doctor = {
    .name = "doctor",
    .summary = "check database, schema, listeners and what holds readers back",
    .details = "Exit code 0 when nothing is wrong, 10 when something is, 3 without a connection.",
    .run = run,
};
