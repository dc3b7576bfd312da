/*
 * schedule.c: delayed events: how late after their due time they are in the log and at a handler while
 * `trunkline serve` runs, and what moving costs when very many are due at once.
 */
#include "bench.h"

#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;

enum { PER_S = 50, BACKLOG = 20000 };

/* serve with the leadership, its log thrown away. */
static pid_t serve_start(const struct bench *b)
{
    char *argv[] = {argv_text(b->program),  argv_text("serve"), argv_text("--db"),
                    argv_text(b->conninfo), argv_text("-q"),    NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", 1, 0);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", 1, 0);
    if (posix_spawn(&pid, b->program, &actions, NULL, argv, environ) != 0)
        die("serve", b->program);
    posix_spawn_file_actions_destroy(&actions);
    for (int i = 0; i < 500; i++) {
        if (sql_int(b->admin, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND "
                              "classid = trunkline.lock_class()::oid AND objid = 3"))
            return pid;
        tl__sleep_until_ns(tl__clock_ns() + 20000000);
    }
    die("serve", "does not lead");
}

static void serve_stop(pid_t pid)
{
    int status;

    (void)kill(pid, SIGTERM);
    (void)waitpid(pid, &status, 0);
}

/* Due times at random over some seconds; the stamp of each is its due time on our clock. */
static void lateness(const struct bench *b)
{
    char sql[700];
    int count = (int)(PER_S * b->latency_round_s * b->rounds);
    int64_t before = (int64_t)tl__clock_ns();
    int64_t server_us =
        sql_int(b->admin, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint");
    int64_t offset_ns = (before + (int64_t)tl__clock_ns()) / 2 - server_us * 1000;
    struct consumer *c;
    struct consumed seen;
    double *moved_us = need(calloc((size_t)count, sizeof *moved_us));
    int64_t last;
    pid_t serve;

    sql_exec(b->admin, "SELECT trunkline.subscribe('bench/due', 'bench.due')");
    c = consumer_start(b, "worker", "bench/due", 100); /* first: it wants to be the sentinel */
    serve = serve_start(b);
    snprintf(sql, sizeof sql,
             "SELECT trunkline.publish('bench.due', jsonb_build_object('t', (extract(epoch FROM "
             "r.at) * 1000000)::bigint * 1000 + %lld), run_at => r.at) FROM (SELECT "
             "clock_timestamp() + interval '2 s' + random() * %f * interval '1 s' AS at FROM "
             "generate_series(1, %d) OFFSET 0) r",
             (long long)offset_ns, count / (double)PER_S, count);
    sql_exec(b->admin, sql);
    while (sql_int(b->admin, "SELECT count(*) FROM trunkline.scheduled") > 0)
        tl__sleep_until_ns(tl__clock_ns() + 100000000);
    last = sql_int(b->admin, "SELECT last_value FROM trunkline.position_bus");
    consumer_wait(c, last);
    seen = consumer_stop(c);
    serve_stop(serve);
    if (seen.latencies != (size_t)count)
        die("schedule", "not every event was seen exactly once");
    snprintf(
        sql, sizeof sql,
        "SELECT string_agg(((extract(epoch FROM created_at) * 1000000)::bigint * 1000 + %lld - "
        "(data ->> 't')::bigint)::text, ' ') FROM trunkline.topic_bus WHERE type = 'bench.due'",
        (long long)offset_ns);
    char *text = sql_value(b->admin, sql), *next = text;
    for (int i = 0; i < count; i++)
        moved_us[i] = (double)strtoll(next, &next, 10) / 1e3;
    free(text);
    for (int i = 0; i < 2; i++) {
        double *us = i == 0 ? moved_us : seen.latency_us;
        report_note("%-22s p50 %.2f  p99 %.2f  max %.2f ms after the due time (%d events)",
                    i == 0 ? "in the log" : "at the handler",
                    quantile(us, (size_t)count, 0.5) / 1e3, quantile(us, (size_t)count, 0.99) / 1e3,
                    quantile(us, (size_t)count, 1) / 1e3, count);
    }
    report_bar_max("due time to log: p99", quantile(moved_us, (size_t)count, 0.99) / 1e3, 50, "ms");
    free(moved_us);
    free(seen.latency_us);
    sql_exec(b->admin, "SELECT trunkline.unsubscribe('bench/due', true)");
}

/* Everything due at once: batches of 1000, each a transaction, beside one INSERT of as many rows. */
static void backlog(const struct bench *b)
{
    static struct figure f[2];
    char sql[400];

    f[0] =
        (struct figure){"schedule", "bare INSERT ... SELECT, 1000 rows", "rows/s", NULL, b->rounds};
    f[1] = (struct figure){"schedule", "move_due(), batches of 1000", "events/s", &f[0], b->rounds};
    for (int round = 0; round < b->rounds; round++) {
        uint64_t start = tl__clock_ns();
        for (int i = 0; i < BACKLOG; i += 1000) {
            snprintf(sql, sizeof sql,
                     "INSERT INTO bench_bare (type, tenant_id, data) SELECT '%s', '%s', '%s' FROM "
                     "generate_series(1, 1000)",
                     event_type, event_tenant, "{\"n\": 1}");
            sql_exec(b->admin, sql);
        }
        f[0].values[round] = BACKLOG * 1e9 / (double)(tl__clock_ns() - start);
        snprintf(sql, sizeof sql,
                 "SELECT count(*) FROM (SELECT trunkline.publish('%s', '{\"n\": 1}', tenant_id => "
                 "'%s', delay => '1 h') FROM generate_series(1, %d) OFFSET 0) q",
                 event_type, event_tenant, BACKLOG);
        sql_exec(b->admin, sql);
        sql_exec(b->admin, "UPDATE trunkline.scheduled SET due_at = now(), run_at = now()");
        sql_exec(b->admin, "VACUUM ANALYZE trunkline.scheduled, trunkline.dedup");
        start = tl__clock_ns();
        while (sql_int(b->admin, "SELECT trunkline.move_due()") > 0)
            ;
        f[1].values[round] = BACKLOG * 1e9 / (double)(tl__clock_ns() - start);
    }
    for (int i = 0; i < 2; i++)
        report_figure(&f[i]);
}

void measure_schedule(const struct bench *b)
{
    report_section("Delayed events",
                   "50 a second at random due times, one daemon; then many due at "
                   "once");
    if (b->program)
        lateness(b);
    else
        report_note("no --program: the daemon is not measured");
    backlog(b);
}
