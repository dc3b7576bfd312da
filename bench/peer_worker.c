/*
 * peer_worker.c: the reading side of the peers whose worker is a few statements: PgQ's batches,
 * message-db's category, and a table of jobs with SKIP LOCKED. A process of its own, as consumer.c
 * says. Those of graphile-worker and pg-boss are their own, in bench/peers/peer.js.
 */
#include "bench.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static PGresult *ask(PGconn *conn, PGresult *res, const char *what)
{
    if (PQresultStatus(res) != PGRES_TUPLES_OK && PQresultStatus(res) != PGRES_COMMAND_OK)
        die(what, PQerrorMessage(conn));
    return res;
}

static int handle_all(const PGresult *res, int column)
{
    for (int i = 0; i < PQntuples(res); i++)
        consumer_saw(PQgetvalue(res, i, column));
    return PQntuples(res);
}

/* -------------------------------------------------------------------------------------- PgQ -- */

/* One transaction a batch, so that there is one commit to wait for. */
static bool take_pgq(PGconn *conn, int batch)
{
    PGresult *res =
        ask(conn, PQexec(conn, "BEGIN; SELECT pgq.next_batch('bench', 'worker')"), "next_batch");
    bool has_batch = PQgetisnull(res, 0, 0) == 0;
    char sql[128];

    (void)batch; /* the ticks make them */
    if (has_batch) {
        int64_t id = strtoll(PQgetvalue(res, 0, 0), NULL, 10);
        PGresult *events;

        snprintf(sql, sizeof sql,
                 "SELECT ev_data, ev_id, ev_time, ev_txid, ev_type FROM "
                 "pgq.get_batch_events(%" PRId64 ")",
                 id);
        events = ask(conn, PQexec(conn, sql), "get_batch_events");
        handle_all(events, 0);
        PQclear(events);
        snprintf(sql, sizeof sql, "SELECT pgq.finish_batch(%" PRId64 "); COMMIT", id);
        sql_exec(conn, sql);
    } else {
        sql_exec(conn, "COMMIT");
    }
    PQclear(res);
    return has_batch;
}

/* ------------------------------------------------------------------------------- message-db -- */

static int64_t category_position;

static void open_message_db(PGconn *conn)
{
    sql_exec(conn, "SET search_path = public, message_store");
    category_position = sql_int(conn, "SELECT data::jsonb ->> 'position' FROM "
                                      "get_last_stream_message('invoice:position-worker')");
}

static bool take_message_db(PGconn *conn, int batch)
{
    char sql[256];
    PGresult *res;
    int n;

    snprintf(sql, sizeof sql,
             "SELECT data, global_position, id, stream_name, type, position, metadata, time FROM "
             "get_category_messages('invoice', %" PRId64 ", %d)",
             category_position + 1, batch);
    res = ask(conn, PQexec(conn, sql), "get_category_messages");
    n = handle_all(res, 0);
    if (n > 0) {
        category_position = strtoll(PQgetvalue(res, n - 1, 1), NULL, 10);
        snprintf(sql, sizeof sql,
                 "SELECT write_message(gen_random_uuid()::varchar, 'invoice:position-worker', "
                 "'Recorded', '{\"position\":%" PRId64 "}')",
                 category_position);
        sql_exec(conn, sql);
    }
    PQclear(res);
    return n > 0;
}

/* ----------------------------------------------------------------------------- table of jobs -- */

static void open_job_table(PGconn *conn)
{
    sql_exec(conn, "LISTEN events");
    PQclear(ask(conn,
                PQprepare(conn, "take",
                          "UPDATE bench_jobs SET status = 'processing' WHERE id IN (SELECT id FROM "
                          "bench_jobs WHERE status = 'pending' ORDER BY created_at LIMIT $1 FOR "
                          "UPDATE SKIP LOCKED) RETURNING payload, id",
                          0, NULL),
                "prepare"));
    PQclear(ask(conn,
                PQprepare(conn, "done",
                          "UPDATE bench_jobs SET status = 'completed', processed_at = now() "
                          "WHERE id = ANY ($1::uuid[])",
                          0, NULL),
                "prepare"));
}

/* Claim some, handle them, complete them: two commits. */
static bool take_jobs(PGconn *conn, int batch)
{
    enum { ID_SIZE = 37 };
    char limit[16];
    const char *value = limit;
    char *ids;
    size_t len = 0;
    PGresult *res;
    int n;

    snprintf(limit, sizeof limit, "%d", batch);
    res = ask(conn, PQexecPrepared(conn, "take", 1, &value, NULL, NULL, 0), "take");
    n = handle_all(res, 0);
    ids = need(malloc((size_t)n * ID_SIZE + 3));
    ids[len++] = '{';
    for (int i = 0; i < n; i++)
        len += (size_t)snprintf(ids + len, ID_SIZE + 1, "%s%s", i > 0 ? "," : "",
                                PQgetvalue(res, i, 1));
    memcpy(ids + len, "}", 2);
    value = ids;
    if (n > 0)
        PQclear(ask(conn, PQexecPrepared(conn, "done", 1, &value, NULL, NULL, 0), "done"));
    free(ids);
    PQclear(res);
    return n > 0;
}

static void open_job_table_plain(PGconn *conn)
{
    sql_exec(conn, "LISTEN events");
    PQclear(ask(conn,
                PQprepare(conn, "look",
                          "SELECT payload, id FROM bench_jobs WHERE status = 'pending' ORDER BY "
                          "created_at LIMIT $1 FOR UPDATE SKIP LOCKED",
                          0, NULL),
                "prepare"));
    PQclear(ask(conn,
                PQprepare(conn, "begin",
                          "UPDATE bench_jobs SET status = 'processing' WHERE id = $1", 0, NULL),
                "prepare"));
    PQclear(ask(conn,
                PQprepare(conn, "end",
                          "UPDATE bench_jobs SET status = 'completed', processed_at = now() "
                          "WHERE id = $1",
                          0, NULL),
                "prepare"));
}

/* As such a worker is usually written: rows looked up by the hundred, each with commits of its own.
 * (The first of them lets go of the locks on all: with a second worker it would handle twice.) */
static bool take_jobs_plain(PGconn *conn, int batch)
{
    char limit[16];
    const char *value = limit;
    PGresult *res;
    int n;

    snprintf(limit, sizeof limit, "%d", batch);
    sql_exec(conn, "BEGIN");
    res = ask(conn, PQexecPrepared(conn, "look", 1, &value, NULL, NULL, 0), "look");
    n = PQntuples(res);
    for (int i = 0; i < n; i++) {
        value = PQgetvalue(res, i, 1);
        PQclear(ask(conn, PQexecPrepared(conn, "begin", 1, &value, NULL, NULL, 0), "begin"));
        if (i == 0)
            sql_exec(conn, "COMMIT");
        consumer_saw(PQgetvalue(res, i, 0));
        PQclear(ask(conn, PQexecPrepared(conn, "end", 1, &value, NULL, NULL, 0), "end"));
    }
    if (n == 0)
        sql_exec(conn, "COMMIT");
    PQclear(res);
    return n > 0;
}

/* ----------------------------------------------------------------------------------- worker -- */

static const struct kind {
    const char *name;
    void (*open)(PGconn *conn);            /* NULL: nothing to prepare */
    bool (*take)(PGconn *conn, int batch); /* false: nothing is there */
} kinds[] = {
    {"pgq", NULL, take_pgq},
    {"message-db", open_message_db, take_message_db},
    {"job-table", open_job_table, take_jobs},
    {"job-table-plain", open_job_table_plain, take_jobs_plain},
};

static void forget_notifications(PGconn *conn)
{
    PGnotify *n;

    if (!PQconsumeInput(conn))
        die("worker", PQerrorMessage(conn));
    while ((n = PQnotifies(conn)) != NULL)
        PQfreemem(n);
}

bool peer_work(const char *kind, const char *conninfo, const char *poll_ms, const char *batch)
{
    uint64_t poll_us = strtoull(poll_ms, NULL, 10) * 1000;
    int size = (int)strtol(batch, NULL, 10);
    const struct kind *k = NULL;
    PGconn *conn;
    bool has_more;

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i].name, kind) == 0)
            k = &kinds[i];
    }
    if (k == NULL)
        return false;
    conn = connect_to(conninfo, "trunkline-bench worker");
    if (k->open != NULL)
        k->open(conn);
    puts("ready");
    fflush(stdout);
    do {
        forget_notifications(conn);
        has_more = k->take(conn, size);
    } while (consumer_pause(PQsocket(conn), tl__clock_ns() / 1000 + (has_more ? 0 : poll_us)));
    PQfinish(conn);
    return true;
}
