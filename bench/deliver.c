/*
 * deliver.c: one log for many subscriptions, and what failures that wait cost those that do not.
 */
#include "bench.h"

#include <inttypes.h>
#include <stdlib.h>

#define FANOUT 20
#define WAITING 100000

static int64_t last_position(const struct bench *b)
{
    return sql_int(b->admin, "SELECT last_value FROM trunkline.position_bus");
}

/* ---------------------------------------------------------------------------------- fanout -- */

static int64_t rows_read(const struct bench *b)
{
    return sql_int(b->admin, "SELECT coalesce(sum(idx_tup_fetch + seq_tup_read), 0)::bigint FROM "
                             "pg_stat_user_tables WHERE schemaname = 'trunkline' AND relname ~ "
                             "'^leaf_'");
}

/* Rows of the log fetched by others since `before`; their counters arrive with a delay. */
static int64_t rows_read_since(const struct bench *b, int64_t before, int64_t least)
{
    uint64_t give_up_ns = tl__clock_ns() + 5000000000u;
    int64_t rows;

    while ((rows = rows_read(b) - before) < least && tl__clock_ns() < give_up_ns)
        tl__sleep_until_ns(tl__clock_ns() + 100000000u);
    return rows;
}

/* Deliveries a second of one worker with so many subscriptions, from a backlog to nothing. */
static double fan_out(const struct bench *b, int64_t after, int subscriptions, int claim_batch,
                      double *ret_reads, double *ret_mib)
{
    struct consumer *worker;
    struct consumed seen;
    int64_t read_before;
    char sql[256];

    snprintf(sql, sizeof sql,
             "SELECT trunkline.subscribe('bench/fan' || i, '**', start_at => '%" PRId64
             "') FROM generate_series(1, %d) i",
             after, subscriptions);
    sql_exec(b->admin, sql);
    read_before = rows_read(b);
    worker = consumer_start(b, "fanout", "bench/fan", claim_batch);
    consumer_wait(worker, (int64_t)b->backlog * subscriptions);
    *ret_mib = (double)tl__process_resident_bytes(consumer_pid(worker)) / 1048576;
    seen = consumer_stop(worker);
    free(seen.latency_us);
    *ret_reads = (double)rows_read_since(b, read_before, b->backlog) / b->backlog;
    sql_exec(b->admin, "SELECT trunkline.unsubscribe(name, true) FROM trunkline.subscriptions "
                       "WHERE name ^@ 'bench/fan'");
    return (double)seen.events * 1e9 / (double)(seen.last_ns - seen.first_ns);
}

void measure_fanout(const struct bench *b)
{
    static struct figure f[3];
    int64_t after = last_position(b);
    double reads[3] = {0};
    double mib = 0;

    report_section("Fan-out: one worker, handlers that do nothing, all events to all subscriptions",
                   "deliveries/s");
    publish_backlog(b, "bus", b->backlog);
    sql_exec(b->admin, "CHECKPOINT");
    f[0] = (struct figure){"fanout", "1 subscription, claim_batch 1000", "deliveries/s", NULL,
                           b->rounds};
    f[1] = (struct figure){"fanout", "20 subscriptions, claim_batch 1000", "deliveries/s", &f[0],
                           b->rounds};
    f[2] = (struct figure){"fanout", "20 subscriptions, claim_batch 100", "deliveries/s", &f[0],
                           b->rounds};
    for (int round = 0; round < b->rounds; round++) {
        f[0].values[round] = fan_out(b, after, 1, 1000, &reads[0], &mib);
        f[2].values[round] = fan_out(b, after, FANOUT, 100, &reads[2], &mib);
        f[1].values[round] = fan_out(b, after, FANOUT, 1000, &reads[1], &mib);
    }
    for (int v = 0; v < 3; v++)
        report_figure(&f[v]);
    report_note("%d events; rows of the log read for each: %.2f for 1 subscription, %.2f and %.2f "
                "for 20 (claims of 1000, of 100)",
                b->backlog, reads[0], reads[1], reads[2]);
    report_note("resident memory of the worker with 20 subscriptions, claims of 1000: %.1f MiB",
                mib);
    report_bar_min("fan-out to 20 subscriptions, claim_batch 1000", figure_median(&f[1]), 500000,
                   "deliveries/s");
    report_bar_max("rows of the log read for each event, 20 subscriptions", reads[1], 1.5, "");
}

/* --------------------------------------------------------------------------------- retries -- */

struct waiting {
    const char *ordering;
    const char *on_failure;
    const char *key; /* SQL: what waits for each of them */
};

/* Events a second from a backlog to nothing, while `waiting` earlier ones wait for a retry. */
static double drain_beside(const struct bench *b, int64_t first, int64_t after, int waiting,
                           const struct waiting *how)
{
    struct consumer *worker;
    struct consumed seen;
    int64_t fresh = last_position(b) - after;
    char sql[512];

    snprintf(sql, sizeof sql,
             "SELECT trunkline.subscribe('bench/retries', '**', start_at => '%" PRId64
             "', ordering => '%s', on_failure => '%s', max_attempts => 1000)",
             after, how->ordering, how->on_failure);
    sql_exec(b->admin, sql);
    snprintf(
        sql, sizeof sql,
        "INSERT INTO trunkline.retries (subscription_id, \"position\", slot, attempt, key, "
        "next_attempt_at, error_message, last_error_at, errors) SELECT s.subscription_id, e.p, 0, "
        "1, %s, now() + interval '1 h' + random() * interval '1 h', 'not today', now(), '[]' FROM "
        "trunkline.subscriptions s, generate_series(%" PRId64 "::bigint, %" PRId64 ") e(p) "
        "WHERE s.name = 'bench/retries'",
        how->key, first + 1, first + waiting);
    if (waiting > 0)
        sql_exec(b->admin, sql);
    sql_exec(b->admin, "VACUUM ANALYZE trunkline.retries");
    sql_exec(b->admin, "CHECKPOINT"); /* what was written for it is not part of the figure */
    worker = consumer_start(b, "fanout", "bench/retries", 100);
    consumer_wait(worker, fresh);
    seen = consumer_stop(worker);
    free(seen.latency_us);
    sql_exec(b->admin, "SELECT trunkline.unsubscribe('bench/retries', true)");
    return (double)seen.events * 1e9 / (double)(seen.last_ns - seen.first_ns);
}

void measure_retries(const struct bench *b)
{
    static const struct waiting alone = {"none", "retry", "NULL"};
    static const struct waiting blocking = {"key", "block_key", "'key ' || e.p % 1000"};
    static struct figure f[4];
    int64_t first = last_position(b);
    int64_t after;
    char sql[1024];

    report_section("Fresh events beside 100,000 that wait for a retry, claim_batch 100",
                   "events/s, handler does nothing");
    publish_backlog(b, "bus", WAITING);
    after = last_position(b);
    snprintf(
        sql, sizeof sql,
        "INSERT INTO trunkline.topic_bus (type, key, data) SELECT 'bench.fresh', 'fresh ' || i "
        "%% 1000, '%s' FROM generate_series(1, %d) i",
        invoice, b->backlog);
    sql_exec(b->admin, sql);
    sql_exec(b->admin, "CHECKPOINT");
    f[0] = (struct figure){"retries", "ordering none, nothing waits", "events/s", NULL, b->rounds};
    f[1] = (struct figure){"retries", "ordering none, 100,000 wait", "events/s", &f[0], b->rounds};
    f[2] = (struct figure){"retries", "ordering key, nothing waits", "events/s", NULL, b->rounds};
    f[3] = (struct figure){"retries", "ordering key, 100,000 of 1000 other keys wait", "events/s",
                           &f[2], b->rounds};
    for (int round = 0; round < b->rounds; round++) {
        f[0].values[round] = drain_beside(b, first, after, 0, &alone);
        f[1].values[round] = drain_beside(b, first, after, WAITING, &alone);
        f[2].values[round] = drain_beside(b, first, after, 0, &blocking);
        f[3].values[round] = drain_beside(b, first, after, WAITING, &blocking);
    }
    for (int v = 0; v < 4; v++)
        report_figure(&f[v]);
    report_ratio_min("fresh events beside 100,000 retries, ordering none", &f[1], &f[0], 0.9,
                     "x without");
    report_ratio_min("fresh events beside 100,000 retries, blocked keys", &f[3], &f[2], 0.9,
                     "x without");
}
