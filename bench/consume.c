/*
 * consume.c: how fast a backlog is worked off, and what reading leaves behind in the database.
 */
#include "bench.h"

#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 1000

extern char **environ;

/* ----------------------------------------------------------------------------------- drain -- */

static const char page_sql[] =
    "SELECT \"position\", id, type, source, stream, version, key, tenant_id, data, metadata, "
    "expires_at, created_at FROM bench_bare WHERE \"position\" > $1 ORDER BY \"position\" LIMIT "
    "1000";

/* Events a second of a bare keyset read of the same rows; every value is in the client then. */
static double read_pages(PGconn *conn, int64_t after, int events, double *ret_cpu_us)
{
    uint64_t cpu_ns = tl__process_cpu_ns(PQbackendPID(conn));
    uint64_t start_ns = tl__clock_ns();
    int count = 0;

    while (count < events) {
        char position[8];
        const char *value = position;
        PGresult *res;
        int rows;

        put_int8(position, after);
        res = PQexecPrepared(conn, "page", 1, &value, (const int[]){8}, (const int[]){1}, 1);
        rows = PQntuples(res);
        if (PQresultStatus(res) != PGRES_TUPLES_OK || rows == 0)
            die("keyset read", PQerrorMessage(conn));
        after = get_int8(PQgetvalue(res, rows - 1, 0));
        count += rows;
        PQclear(res);
    }
    *ret_cpu_us = (double)(tl__process_cpu_ns(PQbackendPID(conn)) - cpu_ns) / 1e3 / count;
    return (double)count * 1e9 / (double)(tl__clock_ns() - start_ns);
}

double drain_backlog(const struct bench *b, const char *topic, int64_t after, int64_t last,
                     int events, int claim_batch)
{
    struct consumer *worker;
    struct consumed seen;
    char sql[160];

    snprintf(sql, sizeof sql,
             "SELECT trunkline.subscribe('bench/drain', '**', topic => '%s', "
             "start_at => '%" PRId64 "')",
             topic, after);
    sql_exec(b->admin, sql);
    worker = consumer_start(b, "worker", "bench/drain", claim_batch);
    consumer_wait(worker, last);
    seen = consumer_stop(worker);
    free(seen.latency_us);
    sql_exec(b->admin, "SELECT trunkline.unsubscribe('bench/drain', true)");
    if (seen.events != events)
        die("drain", "the worker has not seen every event exactly once");
    return (double)(events - claim_batch) * 1e9 / (double)(seen.last_ns - seen.first_ns);
}

void publish_backlog(const struct bench *b, const char *topic, int events)
{
    tl_new_event batch[PAGE];
    tl_client *c;

    for (int i = 0; i < PAGE; i++)
        batch[i] = *TL_NEW_EVENT(.type = event_type, .data = invoice, .tenant_id = event_tenant);
    if (tl_client_open(b->conninfo, NULL, &c) != TL_OK)
        die("tl_client_open", tl_error_message(tl_client_error(c)));
    for (int i = 0; i < events / PAGE; i++) {
        if (tl_publish_batch(c, topic, batch, PAGE, NULL) != TL_OK)
            die("tl_publish_batch", tl_error_message(tl_client_error(c)));
    }
    tl_client_close(c);
}

void measure_drain(const struct bench *b)
{
    static struct figure f[4];
    PGconn *conn = connect_to(b->conninfo, "trunkline-bench load");
    int64_t after = sql_int(b->admin, "SELECT last_value FROM trunkline.position_bus");
    int64_t bare_after;
    int64_t last;
    char sql[256];

    report_section("Drain of a backlog by one worker, handler does nothing",
                   "events/s, the same rows on both sides");
    publish_backlog(b, "bus", b->backlog);
    last = sql_int(b->admin, "SELECT last_value FROM trunkline.position_bus");
    bare_after = sql_int(b->admin, "SELECT coalesce(max(\"position\"), 0) FROM bench_bare");
    snprintf(sql, sizeof sql,
             "INSERT INTO bench_bare (type, tenant_id, data) SELECT type, tenant_id, data "
             "FROM trunkline.topic_bus WHERE \"position\" > %" PRId64 " ORDER BY \"position\"",
             after);
    sql_exec(b->admin, sql);
    sql_exec(b->admin, "VACUUM ANALYZE bench_bare");
    sql_exec(b->admin, "CHECKPOINT");
    PQclear(PQprepare(conn, "page", page_sql, 0, NULL));
    f[0] = (struct figure){"drain", "bare SELECT ... ORDER BY position LIMIT 1000", "events/s",
                           NULL, b->rounds};
    f[1] = (struct figure){"drain", "worker, claim_batch 1000", "events/s", &f[0], b->rounds};
    f[2] = (struct figure){"drain", "worker, claim_batch 100", "events/s", &f[0], b->rounds};
    f[3] = (struct figure){"drain", "worker, claim_batch 4000 (default)", "events/s", &f[0],
                           b->rounds};
    for (int round = 0; round < b->rounds; round++) {
        f[0].values[round] = read_pages(conn, bare_after, b->backlog, &f[0].cpu_us[round]);
        f[1].values[round] = drain_backlog(b, "bus", after, last, b->backlog, PAGE);
        f[2].values[round] = drain_backlog(b, "bus", after, last, b->backlog, 100);
        f[3].values[round] = drain_backlog(b, "bus", after, last, b->backlog, 4000);
    }
    for (int v = 0; v < 4; v++)
        report_figure(&f[v]);
    report_note("backlog of %d events; the topic's leaf was not vacuumed, the bare table was",
                b->backlog);
    /* either bar will do */
    if (figure_median(&f[1]) >= 150000)
        report_bar_min("drain, claim_batch 1000", figure_median(&f[1]), 150000, "events/s");
    else
        report_ratio_min("drain, claim_batch 1000", &f[1], &f[0], 0.5, "x bare read");
    report_bars_of("speed");
    report_bar_min("drain", figure_median(&f[3]), 250000, "events/s");
    report_ratio_min("drain", &f[3], &f[0], 0.8, "x bare read");
    PQfinish(conn);
}

/* ----------------------------------------------------------------------------------- space -- */

pid_t start_serve(const struct bench *b, const char *const *arguments)
{
    char *argv[16] = {argv_text(b->program), argv_text("serve"), argv_text("--db"),
                      argv_text(b->conninfo)};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int error;

    for (int i = 0; arguments != NULL && arguments[i] != NULL && i < 11; i++)
        argv[4 + i] = argv_text(arguments[i]);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", 1 /* O_WRONLY */, 0);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", 1 /* O_WRONLY */, 0);
    error = posix_spawn(&pid, b->program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0)
        die("cannot start", b->program);
    return pid;
}

/* Resident memory once it listens and has been left alone for a while. */
static void measure_serve(const struct bench *b)
{
    uint64_t give_up_ns = tl__clock_ns() + 20000000000u;
    uint64_t bytes;
    pid_t pid;
    int status;

    if (b->program == NULL) {
        report_note("trunkline serve: not measured, give --program");
        return;
    }
    pid = start_serve(b, NULL);
    while (sql_int(b->admin, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND "
                             "objid = 1 AND objsubid = 2") == 0) {
        if (tl__clock_ns() > give_up_ns || waitpid(pid, &status, WNOHANG) == pid)
            die("trunkline serve", "did not become the sentinel");
        tl__sleep_until_ns(tl__clock_ns() + 100000000u);
    }
    tl__sleep_until_ns(tl__clock_ns() + 3000000000u);
    bytes = tl__process_resident_bytes(pid);
    kill(pid, SIGTERM);
    if (waitpid(pid, &status, 0) != pid || status != 0)
        die("trunkline serve", "did not end well");
    report_bar_max("resident memory of trunkline serve at rest", (double)bytes / 1048576, 20,
                   "MiB");
}

int64_t dead_rows(const struct bench *b, const char *pattern)
{
    char sql[256];

    snprintf(sql, sizeof sql,
             "SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_user_tables "
             "WHERE schemaname = 'trunkline' AND relname ~ '%s'",
             pattern);
    return sql_int(b->admin, sql);
}

/* Counted exactly where the extension is to be had: -1 where not. */
static int64_t dead_rows_in_leaves(const struct bench *b)
{
    if (sql_int(b->admin, "SELECT count(*) FROM pg_available_extensions "
                          "WHERE name = 'pgstattuple'") == 0)
        return -1;
    sql_exec(b->admin, "CREATE EXTENSION IF NOT EXISTS pgstattuple");
    return sql_int(b->admin, "SELECT sum(t.dead_tuple_count) FROM pg_class c, "
                             "LATERAL pgstattuple(c.oid) t WHERE c.relnamespace = "
                             "'trunkline'::regnamespace AND c.relname ~ '^leaf_' AND c.relkind = "
                             "'r'");
}

void measure_space(const struct bench *b)
{
    uint64_t give_up_ns = tl__clock_ns() + 30000000000u;
    int64_t first;
    int64_t before;
    int64_t last;
    int64_t in_leaves;

    report_section("What publishing and consuming leaves behind", "");
    first = sql_int(b->admin, "SELECT last_value FROM trunkline.position_bus");
    before = sql_int(b->admin, "SELECT sum(n_tup_ins) FROM pg_stat_user_tables "
                               "WHERE schemaname = 'trunkline' AND relname ~ '^leaf_'");
    publish_backlog(b, "bus", b->backlog);
    last = sql_int(b->admin, "SELECT last_value FROM trunkline.position_bus");
    drain_backlog(b, "bus", first, last, b->backlog, 100);
    /* the counters of other sessions arrive with a delay */
    while (sql_int(b->admin,
                   "SELECT sum(n_tup_ins) FROM pg_stat_user_tables "
                   "WHERE schemaname = 'trunkline' AND relname ~ '^leaf_'") < before + b->backlog) {
        if (tl__clock_ns() > give_up_ns)
            die("statistics", "do not arrive");
        tl__sleep_until_ns(tl__clock_ns() + 100000000u);
    }
    in_leaves = dead_rows_in_leaves(b);
    report_note("after %d events published and consumed in batches of 100:", b->backlog);
    report_note("dead rows by pg_stat_user_tables: leaves %" PRId64 ", cursors %" PRId64
                ", leases %" PRId64,
                dead_rows(b, "^leaf_"), dead_rows(b, "^cursors$"), dead_rows(b, "^leases$"));
    report_note("size: cursors %" PRId64 " kB, leases %" PRId64 " kB",
                sql_int(b->admin, "SELECT pg_total_relation_size('trunkline.cursors') / 1024"),
                sql_int(b->admin, "SELECT pg_total_relation_size('trunkline.leases') / 1024"));
    if (in_leaves >= 0)
        report_note("dead rows counted by pgstattuple in the leaves: %" PRId64, in_leaves);
    report_bar_max("dead rows in events",
                   (double)(in_leaves > 0 ? in_leaves : dead_rows(b, "^leaf_")), 0, "");
    measure_serve(b);
}
