/*
 * large.c: publish and consume with ten million events in the log, by turns with a topic that begins
 * empty.
 */
#include "bench.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTIONS 32
#define STEP 1000000

enum { EMPTY, LARGE, TOPICS };

static const char *const topics[TOPICS] = {"bench_empty", "bench_large"};

static int64_t last_position(const struct bench *b, int topic)
{
    char sql[80];

    snprintf(sql, sizeof sql, "SELECT last_value FROM trunkline.position_%s", topics[topic]);
    return sql_int(b->admin, sql);
}

/* By the owner into the leaf, as no caller could: it is the quickest way. */
static void fill(const struct bench *b, int64_t events)
{
    uint64_t start_ns = tl__clock_ns();
    char sql[1200];

    for (int64_t from = 1; from <= events; from += STEP) {
        snprintf(
            sql, sizeof sql,
            "INSERT INTO trunkline.leaf_bench_large_0 (topic_id, \"position\", id, type, "
            "tenant_id, data, created_at) SELECT t.topic_id, n, gen_random_uuid(), '%s', '%s', "
            "d, clock_timestamp() FROM (SELECT topic_id, '%s'::jsonb AS d FROM "
            "trunkline.topics WHERE name = 'bench_large') t, "
            "generate_series(%" PRId64 "::bigint, %" PRId64 ") n",
            event_type, event_tenant, invoice, from, from + STEP - 1);
        sql_exec(b->admin, sql);
    }
    snprintf(sql, sizeof sql, "SELECT setval('trunkline.position_bench_large', %" PRId64 ")",
             events);
    sql_exec(b->admin, sql);
    sql_exec(b->admin, "VACUUM ANALYZE trunkline.leaf_bench_large_0");
    sql_exec(b->admin, "CHECKPOINT");
    report_note("%" PRId64 " events made in %.0f s, %" PRId64 " MB", events,
                (double)(tl__clock_ns() - start_ns) / 1e9,
                sql_int(b->admin,
                        "SELECT pg_total_relation_size('trunkline.leaf_bench_large_0') / 1000000"));
}

static void publish_by_turns(const struct bench *b, struct figure *f)
{
    struct pool *pool = pool_open(b->conninfo, CONNECTIONS);
    struct statement st[TOPICS];
    char sql[TOPICS][160];

    for (int i = 0; i < TOPICS; i++) {
        snprintf(sql[i], sizeof sql[i],
                 "INSERT INTO trunkline.topic_%s (type, tenant_id, data) VALUES ($1, $2, $3) "
                 "RETURNING \"position\", id",
                 topics[i]);
        st[i] = (struct statement){.name = topics[i], .sql = sql[i]};
        statement_row(&st[i]);
        pool_prepare(pool, &st[i]);
        pool_run(pool, &st[i], 0.3);
    }
    for (int round = 0; round < b->rounds; round++) {
        sql_exec(b->admin, "CHECKPOINT");
        for (int turn = 0; turn < TOPICS; turn++) {
            int i = (turn + round) % TOPICS;
            double wal = wal_now(b);
            struct load load = pool_run(pool, &st[i], b->round_s);

            figure_take(&f[i], round, &load, 1, b, wal);
        }
    }
    pool_close(pool);
}

static void consume_by_turns(const struct bench *b, struct figure *f)
{
    int64_t after[TOPICS];
    int64_t last[TOPICS];

    for (int i = 0; i < TOPICS; i++) {
        after[i] = last_position(b, i);
        publish_backlog(b, topics[i], b->backlog);
        last[i] = last_position(b, i);
    }
    for (int round = 0; round < b->rounds; round++) {
        for (int i = 0; i < TOPICS; i++)
            f[i].values[round] = drain_backlog(b, topics[i], after[i], last[i], b->backlog, 1000);
    }
}

void measure_large(const struct bench *b)
{
    static struct figure published[TOPICS];
    static struct figure consumed[TOPICS];
    static const char *const names[TOPICS] = {"an empty log", "a large log"};

    report_section("A large log: publish by 32 connections, and drain by one worker",
                   "events/s, beside a topic that begins empty");
    for (int i = 0; i < TOPICS; i++) {
        char sql[64];

        snprintf(sql, sizeof sql, "SELECT trunkline.create_topic('%s')", topics[i]);
        sql_exec(b->admin, sql);
        published[i] = (struct figure){"large-publish", names[i], "events/s",
                                       i == EMPTY ? NULL : &published[EMPTY], b->rounds};
        consumed[i] = (struct figure){"large-drain", names[i], "events/s",
                                      i == EMPTY ? NULL : &consumed[EMPTY], b->rounds};
    }
    fill(b, b->log_events);
    publish_by_turns(b, published);
    consume_by_turns(b, consumed);
    for (int i = 0; i < TOPICS; i++)
        report_figure(&published[i]);
    for (int i = 0; i < TOPICS; i++)
        report_figure(&consumed[i]);
    report_ratio_min("a large log: publish", &published[LARGE], &published[EMPTY], 0.9,
                     "x an empty log");
    report_ratio_min("a large log: drain, claim_batch 1000", &consumed[LARGE], &consumed[EMPTY],
                     0.9, "x an empty log");
    for (int i = 0; i < TOPICS; i++) {
        char sql[64];

        snprintf(sql, sizeof sql, "SELECT trunkline.drop_topic('%s', true)", topics[i]);
        sql_exec(b->admin, sql);
    }
}
