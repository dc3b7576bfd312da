/*
 * cmd_bench.c: trunkline bench: how fast is it here, beside what PostgreSQL can do at best.
 *
 *   threads   one a connection: blocking calls to one side at a time (src/load)
 *   worker    handles everything that Trunkline's side publishes; a listener beside it
 *
 * Bare INSERT, INSERT + NOTIFY and Trunkline take turns (A B C A B C ...), and ratios are those of
 * the single rounds: what else the machine does meets all three.
 */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"
#include "cleanup.h"
#include "commands.h"
#include "out.h"
#include "process.h"

struct bench {
    const struct tl__args *args;
    struct tl__db db;
    struct tl__bench_settings settings;
    struct tl__bench_events events;
    struct tl__bench_connection *connections;
    struct tl__bench_consumer *consumer;
    uint64_t written[TL__BENCH_SIDES]; /* what the consumer must have seen: events; notifications */
    struct tl__bench_result *results;  /* of TL__BENCH_SIDES */
};

static atomic_bool is_cancelled;

static void on_signal(int number)
{
    (void)number;
    atomic_store(&is_cancelled, true);
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static int cancelled(void)
{
    return atomic_load(&is_cancelled) ? tl__fail(TL_E_CANCELLED, NULL, "interrupted") : 0;
}

/* ----------------------------------------------------------------------------------- one turn -- */

static uint64_t server_cpu_ns(const struct bench *b)
{
    uint64_t sum = b->consumer ? tl__bench_consumer_server_cpu_ns(b->consumer) : 0;

    for (int i = 0; i < b->settings.connections; i++)
        sum += tl__bench_server_cpu_ns(tl_client_pgconn(b->connections[i].client),
                                       b->connections[i].server_pid);
    return sum;
}

static int wal_position(struct bench *b, double *ret)
{
    int rc = 0;
    TL_CLEANUP(tl__pgclearp)
    PGresult *r = tl__db_query(
        &b->db, &rc, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')", 0, NULL);

    if (r)
        *ret = strtod(PQgetvalue(r, 0, 0), NULL);
    return rc;
}

/* One side for so long; waits until the consumer has it all. */
static int run_side(struct bench *b, enum tl__bench_side side, double seconds,
                    struct tl__histogram *publish, struct tl__calls *ret, double *ret_behind_ms)
{
    struct tl__bench_settings *s = &b->settings;
    struct tl__caller *callers = calloc((size_t)s->connections, sizeof *callers);
    struct tl__callers_run run = {
        .seconds = seconds, .per_s = s->rate / (double)s->batch, .cancel = &is_cancelled};
    int rc;

    if (!callers)
        return tl__fail(TL_E_NOMEM, NULL, "no memory");
    for (int i = 0; i < s->connections; i++) {
        b->connections[i].side = side;
        callers[i] = (struct tl__caller){&b->connections[i], tl__bench_call};
    }
    *ret = tl__callers_run(callers, s->connections, &run, publish);
    free(callers);
    for (int i = 0; i < s->connections && !ret->is_ok; i++)
        if (*b->connections[i].error)
            return tl__fail(TL_E_SERVER, NULL, "%s: %s", tl__bench_side_names[side],
                            b->connections[i].error);
    if (!ret->is_ok)
        return tl__fail(TL_E_NOMEM, NULL, "cannot start %d threads", s->connections);
    if ((rc = cancelled()))
        return rc;
    b->written[side] += ret->count * (side == TL__BENCH_TRUNKLINE ? s->batch : 1);
    uint64_t end_ns = tl__clock_ns();
    if (b->consumer && side != TL__BENCH_BARE &&
        (rc = tl__bench_consumer_wait(b->consumer, side, b->written[side], &is_cancelled)))
        return rc;
    *ret_behind_ms = (double)(tl__clock_ns() - end_ns) / 1e6;
    return cancelled();
}

static int take_turn(struct bench *b, enum tl__bench_side side)
{
    struct tl__bench_result *result = &b->results[side];
    struct tl__bench_round *round = &result->round[result->rounds];
    struct tl__calls calls;
    uint64_t server_ns, client_ns;
    double wal_before = 0, wal_after = 0;
    int rc;

    if (b->consumer)
        tl__bench_consumer_take_times(b->consumer, side, NULL);
    if ((rc = wal_position(b, &wal_before)))
        return rc;
    server_ns = server_cpu_ns(b);
    client_ns = tl__own_cpu_ns();
    if ((rc = run_side(b, side, b->settings.seconds, &result->publish, &calls, &round->behind_ms)))
        return rc;
    client_ns = tl__own_cpu_ns() - client_ns;
    server_ns = server_cpu_ns(b) - server_ns;
    if ((rc = wal_position(b, &wal_after)))
        return rc;
    double events = (double)(calls.count * b->settings.batch);
    round->per_s = events * 1e9 / (double)calls.elapsed_ns;
    events = events > 0 ? events : 1;
    round->server_cpu_us = (double)server_ns / 1e3 / events;
    round->client_cpu_us = (double)client_ns / 1e3 / events;
    round->wal_bytes = (wal_after - wal_before) / events;
    result->events += calls.count * b->settings.batch;
    result->late += calls.late;
    result->rounds++;
    if (b->consumer && side != TL__BENCH_BARE)
        tl__bench_consumer_take_times(b->consumer, side, &result->handle);
    return 0;
}

/* ------------------------------------------------------------------------------------ the run -- */

static int connect_all(struct bench *b)
{
    int rc = 0;

    b->connections = calloc((size_t)b->settings.connections, sizeof *b->connections);
    if (!b->connections)
        return tl__fail(TL_E_NOMEM, NULL, "no memory");
    for (int i = 0; rc == 0 && i < b->settings.connections; i++) {
        b->connections[i].events = &b->events;
        b->connections[i].batch = b->settings.batch;
        b->connections[i].next = (size_t)i * b->events.count / (size_t)b->settings.connections;
        rc = tl__bench_connection_open(&b->connections[i], b->args, &b->db);
    }
    if (rc == 0 && b->settings.has_consumer)
        b->consumer = tl__bench_consumer_start(b->args, &b->db, &rc);
    return rc;
}

/* Sessions tell the statistics what they did when they end, so this comes last. */
static void disconnect_all(struct bench *b)
{
    tl__bench_consumer_stop(b->consumer);
    b->consumer = NULL;
    for (int i = 0; b->connections && i < b->settings.connections; i++)
        tl__bench_connection_close(&b->connections[i]);
    free(b->connections);
    b->connections = NULL;
}

static int take_turns(struct bench *b)
{
    struct tl__progress progress;
    uint64_t turns = (uint64_t)b->settings.rounds * TL__BENCH_SIDES, done = 0;
    int rc = 0;

    for (int side = 0; rc == 0 && side < TL__BENCH_SIDES; side++) {
        struct tl__calls calls;
        double behind_ms;
        if (b->settings.warmup_s > 0)
            rc = run_side(b, side, b->settings.warmup_s, NULL, &calls, &behind_ms);
    }
    tl__progress_start(&progress, "turns", turns);
    for (int round = 0; rc == 0 && round < b->settings.rounds; round++)
        for (int side = 0; rc == 0 && side < TL__BENCH_SIDES; side++) {
            rc = take_turn(b, side);
            tl__progress_update(&progress, ++done, 1);
        }
    tl__progress_end(&progress);
    return rc;
}

static int look_at_rest(struct bench *b, struct tl__bench_left *ret)
{
    int rc = 0;
    TL_CLEANUP(tl__pgclearp)
    PGresult *r = tl__db_query(
        &b->db, &rc,
        "WITH leaves AS MATERIALIZED (SELECT relid FROM "
        "pg_partition_tree('@schema@.topic_" TL__BENCH_TOPIC "') WHERE isleaf), "
        "topic AS (SELECT count(*) AS events FROM @schema@.topic_" TL__BENCH_TOPIC "), "
        "bare AS (SELECT count(*) AS events FROM " TL__BENCH_SCHEMA ".bare) "
        "SELECT topic.events, "
        "(SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_all_tables WHERE relid IN (TABLE "
        "leaves)), "
        "(SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_all_tables WHERE schemaname = $1 AND "
        "relid NOT IN (TABLE leaves)), "
        "(SELECT sum(pg_total_relation_size(relid)) FROM leaves) / greatest(topic.events, 1), "
        "pg_total_relation_size('" TL__BENCH_SCHEMA ".bare') / greatest(bare.events, 1) "
        "FROM topic, bare",
        1, &b->db.schema);

    if (!r)
        return rc;
    *ret = (struct tl__bench_left){
        .events = strtoll(PQgetvalue(r, 0, 0), NULL, 10),
        .dead_in_topic = strtoll(PQgetvalue(r, 0, 1), NULL, 10),
        .dead_elsewhere = strtoll(PQgetvalue(r, 0, 2), NULL, 10),
        .topic_bytes = strtod(PQgetvalue(r, 0, 3), NULL),
        .bare_bytes = strtod(PQgetvalue(r, 0, 4), NULL),
        .resident_bytes = ret->resident_bytes,
    };
    return 0;
}

static int measure(struct bench *b)
{
    struct tl__bench_left left = {0};
    int rc;

    if ((rc = connect_all(b)) || (rc = take_turns(b)))
        return rc;
    left.resident_bytes = tl__process_resident_bytes(getpid());
    disconnect_all(b);
    if ((rc = look_at_rest(b, &left)))
        return rc;
    return tl__bench_report(&b->db, &b->settings, b->events.mean_bytes, b->results, &left,
                            tl__args_has(b->args, "json"));
}

static int in_own_place(struct bench *b)
{
    int rc = tl__bench_place_make(&b->db, b->settings.has_consumer), dropped;

    if (rc)
        return rc;
    tl__note("writing to topic " TL__BENCH_TOPIC " and schema " TL__BENCH_SCHEMA
             ", which go in the end; after a crash: trunkline bench --clean");
    rc = measure(b);
    disconnect_all(b);
    dropped = tl__bench_place_drop(&b->db);
    return rc ? rc : dropped;
}

/* ---------------------------------------------------------------------------------- arguments -- */

static int in_range(const struct tl__args *args, const char *name, uint64_t fallback, uint64_t max,
                    uint64_t *ret)
{
    *ret = tl__args_count(args, name, fallback);
    return *ret >= 1 && *ret <= max
               ? 0
               : tl__fail(TL_E_INVALID, NULL, "--%s is a number from 1 to %llu", name,
                          (unsigned long long)max);
}

static int read_settings(const struct tl__args *args, struct tl__bench_settings *s)
{
    uint64_t connections, rounds, batch;
    uint64_t turn_us = tl__args_duration_us(args, "seconds", 3000000);
    int rc;

    if ((rc = in_range(args, "connections", 8, TL__BENCH_MAX_CONNECTIONS, &connections)) ||
        (rc = in_range(args, "rounds", 3, TL__BENCH_MAX_ROUNDS, &rounds)) ||
        (rc = in_range(args, "batch", 1, TL__BENCH_MAX_BATCH, &batch)))
        return rc;
    if (turn_us < 1000)
        return tl__fail(TL_E_INVALID, NULL, "--seconds is at least 1ms");
    *s = (struct tl__bench_settings){
        .connections = (int)connections,
        .rounds = (int)rounds,
        .batch = batch,
        .seconds = (double)turn_us / 1e6,
        .warmup_s = (double)tl__args_duration_us(args, "warmup", 1000000) / 1e6,
        .rate = tl__args_rate(args, "rate"),
        .payload = tl__args_text(args, "payload"),
        .has_consumer = !tl__args_has(args, "no-consumer"),
    };
    s->payload = s->payload ? s->payload : "300";
    return 0;
}

static int run(struct tl__args *args)
{
    struct bench b = {.args = args, .db = TL__DB_INIT};
    int rc = read_settings(args, &b.settings);

    if (rc == 0)
        rc = tl__bench_events_make(&b.events, b.settings.payload);
    b.results = calloc(TL__BENCH_SIDES, sizeof *b.results);
    if (rc == 0 && !b.results)
        rc = tl__fail(TL_E_NOMEM, NULL, "no memory");
    catch_signals();
    if (rc == 0)
        rc = tl__db_open(args, &b.db);
    if (rc == 0)
        rc = tl__args_has(args, "clean") ? tl__bench_place_clean(&b.db) : in_own_place(&b);
    tl__bench_events_done(&b.events);
    free(b.results);
    tl__db_close(&b.db);
    return rc;
}

static const struct tl__option options[] = {
    {"connections", 'c', "N", "that publish at once (8)"},
    {"rate", 0, "RATE",
     "events a second, due at this rate whatever the answers do (none: each "
     "connection publishes as soon as it has its answer)"},
    {"seconds", 0, "DURATION", "length of one turn (3s)"},
    {"warmup", 0, "DURATION", "of each side before the first turn (1s)"},
    {"rounds", 0, "N", "turns of each side (3)"},
    {"payload", 0, "github|SIZE",
     "real webhook payloads, 10 kB on the average, or so many bytes such as 300 or 4kB (300)"},
    {"batch", 0, "N", "events in one transaction (1)"},
    {"no-consumer", 0, NULL, "nobody reads; without it a worker handles everything live"},
    {"clean", 0, NULL, "measure nothing; drop what a bench that was killed has left"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_bench = {
    .name = "bench",
    .summary = "measure publishing and consuming here, beside bare PostgreSQL",
    .details =
        "Three sides take turns: an INSERT of the same row into an ordinary table, the same with a "
        "NOTIFY, and Trunkline by libtrunkline, with a worker that handles every event while it is "
        "published. Prints events a second and the ratio to the bare INSERT of the same round, the "
        "times of publishing and until the handler (with the bare NOTIFY: until the listener), CPU "
        "time and WAL of an event, and what is left behind.\n\n"
        "With --rate a time begins when the event was due, so a stall counts for every event that "
        "waited; without it, when the call began.\n\n"
        "CPU time at the server is that of the sessions, where it runs on this machine. WAL is "
        "that "
        "of the whole server.\n\n"
        "It writes to the topic trunkline_bench and the schema trunkline_bench, makes both and "
        "drops both, and touches nothing else; it takes the owner of Trunkline's schema and CREATE "
        "on the database. Ctrl-c ends it and drops them too. A bench that was killed leaves them "
        "to the next one or to --clean.",
    .examples = "  trunkline bench\n"
                "  trunkline bench --connections 32 --no-consumer --seconds 10\n"
                "  trunkline bench --rate 1000 --payload github\n"
                "  trunkline bench --batch 1000 --json",
    .options = options,
    .run = run,
};
