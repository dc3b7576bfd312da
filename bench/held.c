/*
 * held.c: what a transaction that somebody leaves open does to publishing and consuming: before it,
 * while it is open, and after it has ended.
 */
#include "bench.h"

#include <inttypes.h>
#include <stdlib.h>

#define CONNECTIONS 32
#define PER_S 1000

enum { CLEAN, HELD, RECOVERY, PHASES };

static const char *const phases[PHASES] = {
    [CLEAN] = "clean",
    [HELD] = "a transaction is open",
    [RECOVERY] = "after it has ended",
};

/* With a snapshot and a transaction id: VACUUM can remove nothing that dies from now on. */
static PGconn *hold(const struct bench *b)
{
    PGconn *conn = connect_to(b->conninfo, "trunkline-bench long transaction");

    sql_exec(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    sql_exec(conn, "SELECT pg_current_xact_id()");
    return conn;
}

static double greatest(double *values, size_t n)
{
    return quantile(values, n, 1) / 1e3;
}

static void run_phase(const struct bench *b, int phase, struct figure *rate, struct figure *latency,
                      struct samples *samples)
{
    struct pool *pool = pool_open(b->conninfo, CONNECTIONS);
    struct statement st = {.name = "topic", .sql = topic_sql};

    statement_row(&st);
    pool_prepare(pool, &st);
    pool_run(pool, &st, 0.3);
    for (int round = 0; round < b->rounds; round++) {
        double wal = wal_now(b);
        struct load load;

        run_with_worker(b, pool, &st, &load);
        figure_take(&rate[phase], round, &load, 1, b, wal);
        run_paced(b, pool, &st, PER_S, samples, &latency[phase], round);
    }
    pool_close(pool);
    /* statistics of sessions that have just ended */
    tl__sleep_until_ns(tl__clock_ns() + 500000000u);
    report_note("%s: longest wait of an event at %d/s %.0f ms; dead rows: %" PRId64
                " in the log, %" PRId64 " beside it",
                phases[phase], PER_S, greatest(samples->latency_us, samples->n),
                dead_rows(b, "^leaf_"), dead_rows(b, "^(?!leaf_)"));
}

void measure_held(const struct bench *b)
{
    static struct figure rate[PHASES];
    static struct figure latency[PHASES];
    static struct samples samples[PHASES];
    PGconn *holder = NULL;

    report_section("A transaction is left open: publish by 32 connections, worker live; then "
                   "1000 events/s to a handler",
                   "events/s; ms, median of each round");
    for (int phase = CLEAN; phase < PHASES; phase++) {
        rate[phase] = (struct figure){"held-publish", phases[phase], "events/s",
                                      phase == CLEAN ? NULL : &rate[CLEAN], b->rounds};
        latency[phase] = (struct figure){"held-latency", phases[phase], "ms",
                                         phase == CLEAN ? NULL : &latency[CLEAN], b->rounds};
        if (phase == HELD)
            holder = hold(b);
        if (phase == RECOVERY)
            PQfinish(holder);
        run_phase(b, phase, rate, latency, &samples[phase]);
    }
    for (int phase = CLEAN; phase < PHASES; phase++)
        report_figure(&rate[phase]);
    for (int phase = CLEAN; phase < PHASES; phase++)
        report_figure(&latency[phase]);
    report_ratio_min("transaction held: publish, worker live", &rate[HELD], &rate[CLEAN], 0.9,
                     "x clean");
    report_ratio_max("transaction held: p50 at 1000 events/s", &latency[HELD], &latency[CLEAN], 1.2,
                     "x clean");
    report_bar_max("transaction held: longest wait of an event at 1000/s",
                   greatest(samples[HELD].latency_us, samples[HELD].n), 500, "ms");
    report_bar_max("transaction held: dead rows in the log", (double)dead_rows(b, "^leaf_"), 0, "");
}
