/*
 * publish.c: what it costs to publish one event durably, and a batch of them.
 */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTIONS 32
#define BATCH 1000

/* One statement, so that the notification costs no round trip. */
static const char notify_sql[] =
    "WITH i AS (INSERT INTO bench_bare (type, tenant_id, data) VALUES ($1, $2, $3) "
    "RETURNING \"position\", id) SELECT \"position\", id, pg_notify('bench', '') FROM i";
const char topic_sql[] = "INSERT INTO trunkline.topic_bus (type, tenant_id, data) "
                         "VALUES ($1, $2, $3) RETURNING \"position\", id";
static const char function_sql[] = "SELECT p.\"position\", p.id FROM trunkline.publish(type => $1, "
                                   "tenant_id => $2, data => $3) p";

/* ------------------------------------------------------------------------- async, one thread -- */

enum { BARE, NOTIFY, TOPIC, LIBRARY, FUNCTION, LIVE, LIVE_FUNCTION, VARIANTS };

static const char *const names[VARIANTS] = {
    [BARE] = "bare INSERT",
    [NOTIFY] = "bare INSERT + NOTIFY",
    [TOPIC] = "INSERT into the topic",
    [LIBRARY] = "statement of tl_publish",
    [FUNCTION] = "SQL publish()",
    [LIVE] = "statement of tl_publish, worker live",
    [LIVE_FUNCTION] = "SQL publish(), worker live",
};

static void make_statements(struct statement *st, const char *library_sql)
{
    st[BARE] = (struct statement){.name = "bare", .sql = bare_sql};
    st[NOTIFY] = (struct statement){.name = "notify", .sql = notify_sql};
    st[TOPIC] = (struct statement){.name = "topic", .sql = topic_sql};
    st[LIBRARY] = (struct statement){.name = "library", .sql = library_sql};
    st[FUNCTION] = (struct statement){.name = "function", .sql = function_sql};
    for (int v = 0; v <= FUNCTION; v++) {
        if (v == LIBRARY)
            statement_library_row(&st[v]);
        else
            statement_row(&st[v]);
    }
    st[LIVE] = st[LIBRARY];
    st[LIVE_FUNCTION] = st[FUNCTION];
}

double run_with_worker(const struct bench *b, struct pool *pool, const struct statement *st,
                       struct load *ret)
{
    struct consumer *worker;
    int64_t last;
    uint64_t end_ns;
    uint64_t reached_ns;

    sql_exec(b->admin, "SELECT trunkline.subscribe('bench/live', '**')");
    worker = consumer_start(b, "worker", "bench/live", BATCH);
    *ret = pool_run(pool, st, b->round_s);
    end_ns = tl__clock_ns();
    last = sql_int(b->admin, "SELECT last_value FROM trunkline.position_bus");
    reached_ns = consumer_wait(worker, last);
    free(consumer_stop(worker).latency_us);
    sql_exec(b->admin, "SELECT trunkline.unsubscribe('bench/live', true)");
    return reached_ns > end_ns ? (double)(reached_ns - end_ns) / 1e6 : 0;
}

static void warm_up(struct pool *pool, const struct statement *st)
{
    for (int v = 0; v <= FUNCTION; v++)
        pool_run(pool, &st[v], 0.3);
}

static void publish_over(const struct bench *b, const char *section, int connections, int variants,
                         struct figure *f, double *ret_lag_ms)
{
    char *library_sql = library_statement(b);
    struct pool *pool = pool_open(b->conninfo, connections);
    struct statement st[VARIANTS];
    double own_share[MAX_ROUNDS];
    double lag_ms[MAX_ROUNDS];

    make_statements(st, library_sql);
    for (int v = 0; v <= FUNCTION; v++)
        pool_prepare(pool, &st[v]);
    warm_up(pool, st);
    for (int v = 0; v < variants; v++)
        f[v] = (struct figure){.section = section,
                               .name = names[v],
                               .unit = "events/s",
                               .base = v == BARE ? NULL : &f[BARE],
                               .rounds = b->rounds};
    for (int round = 0; round < b->rounds; round++) {
        sql_exec(b->admin, "CHECKPOINT");
        lag_ms[round] = 0;
        for (int i = 0; i < variants; i++) {
            /* another one is the first after the checkpoint, and writes whole pages to the WAL */
            int v = (i + round) % variants;
            double wal = wal_now(b);
            struct load load;

            if (v == LIVE || v == LIVE_FUNCTION)
                lag_ms[round] = fmax(run_with_worker(b, pool, &st[v], &load), lag_ms[round]);
            else
                load = pool_run(pool, &st[v], b->round_s);
            figure_take(&f[v], round, &load, 1, b, wal);
            if (v == BARE)
                own_share[round] = load.own_cpu_share;
        }
    }
    for (int v = 0; v < variants; v++)
        report_figure(&f[v]);
    report_note("the load generator took %.0f %% of one CPU beside bare INSERT",
                median(own_share, b->rounds) * 100);
    if (variants > LIVE) {
        *ret_lag_ms = median(lag_ms, b->rounds);
        report_note("the worker had handled everything %.0f ms after the last commit (median)",
                    *ret_lag_ms);
    }
    pool_close(pool);
    free(library_sql);
}

static double best(double a, double b)
{
    return a > b ? a : b;
}

void measure_publish(const struct bench *b)
{
    static struct figure f[VARIANTS];
    static struct figure one[VARIANTS];
    double lag_ms = 0;

    report_section("Publish, 32 connections, one event a transaction, durable",
                   "events/s; server us: CPU of the publishing backends for one event");
    publish_over(b, "publish-32", CONNECTIONS, VARIANTS, f, &lag_ms);
    report_bar_min("32 connections: INSERT or tl_publish, nobody reading",
                   best(figure_ratio(&f[TOPIC], &f[BARE]), figure_ratio(&f[LIBRARY], &f[BARE])),
                   0.8, "x bare INSERT");
    report_ratio_min("32 connections: tl_publish, worker live", &f[LIVE], &f[BARE], 0.65,
                     "x bare INSERT");
    report_bar_max("32 connections: the live worker is behind at the end by", lag_ms, 500, "ms");
    report_ratio_min("32 connections: SQL publish()", &f[FUNCTION], &f[BARE], 0.6, "x bare INSERT");
    report_ratio_min("32 connections: INSERT into the topic", &f[TOPIC], &f[NOTIFY], 2,
                     "x INSERT + NOTIFY");
    report_ratio_min("32 connections: tl_publish", &f[LIBRARY], &f[NOTIFY], 2, "x INSERT + NOTIFY");
    report_ratio_min("32 connections: tl_publish, worker live", &f[LIVE], &f[NOTIFY], 2,
                     "x INSERT + NOTIFY");
    report_ratio_min("32 connections: SQL publish()", &f[FUNCTION], &f[NOTIFY], 2,
                     "x INSERT + NOTIFY");

    report_bars_of("speed");
    report_ratio_min("32 connections: tl_publish, nobody reading", &f[LIBRARY], &f[BARE], 0.9,
                     "x bare INSERT");
    report_ratio_min("32 connections: tl_publish, worker live", &f[LIVE], &f[BARE], 0.7,
                     "x bare INSERT");
    report_bars_of("core");

    report_section("Publish, 1 connection, one event a transaction, durable",
                   "events/s; bound by the latency of the disk and of waking up");
    publish_over(b, "publish-1", 1, LIVE, one, NULL);
    report_ratio_min("1 connection: INSERT into the topic", &one[TOPIC], &one[BARE], 0.6,
                     "x bare INSERT");
    report_ratio_min("1 connection: tl_publish", &one[LIBRARY], &one[BARE], 0.6, "x bare INSERT");
    report_ratio_min("1 connection: SQL publish()", &one[FUNCTION], &one[BARE], 0.6,
                     "x bare INSERT");
}

/* --------------------------------------------------------------------- blocking, real calls -- */

static void call_publish(void *context)
{
    tl_client *c = context;
    tl_receipt receipt;

    if (tl_publish(c, NULL,
                   TL_NEW_EVENT(.type = event_type, .data = invoice, .tenant_id = event_tenant),
                   &receipt) != TL_OK)
        die("tl_publish", tl_error_message(tl_client_error(c)));
}

static tl_client *open_client(const struct bench *b)
{
    tl_client *c;

    if (tl_client_open(b->conninfo, NULL, &c) != TL_OK)
        die("tl_client_open", tl_error_message(tl_client_error(c)));
    return c;
}

static void take_turns(const struct bench *b, struct figure *f, struct caller *const *callers,
                       int variants, int n, double per_call)
{
    for (int v = 0; v < variants; v++)
        callers_run(callers[v], n, 0.3);
    for (int round = 0; round < b->rounds; round++) {
        sql_exec(b->admin, "CHECKPOINT");
        for (int i = 0; i < variants; i++) {
            int v = (i + round) % variants;
            double wal = wal_now(b);
            struct load load = callers_run(callers[v], n, b->round_s);

            figure_take(&f[v], round, &load, per_call, b, wal);
        }
    }
    for (int v = 0; v < variants; v++)
        report_figure(&f[v]);
}

static void publish_threads(const struct bench *b, const char *section, int n, struct figure *f)
{
    struct caller bare[CONNECTIONS];
    struct caller library[CONNECTIONS];

    for (int i = 0; i < n; i++) {
        tl_client *c = open_client(b);

        bare[i] = bare_caller(b);
        library[i] = (struct caller){c, PQbackendPID(tl_client_pgconn(c)), call_publish};
    }
    f[0] = (struct figure){section, "bare INSERT, PQexecPrepared", "events/s", NULL, b->rounds};
    f[1] = (struct figure){section, "tl_publish", "events/s", &f[0], b->rounds};
    take_turns(b, f, (struct caller *const[]){bare, library}, 2, n, 1);
    for (int i = 0; i < n; i++) {
        PQfinish(bare[i].context);
        tl_client_close(library[i].context);
    }
}

void measure_publish_threads(const struct bench *b)
{
    static struct figure f[2];
    static struct figure one[2];

    report_section("tl_publish itself, 32 threads, each with a client of its own",
                   "events/s; the client's work is on the same CPUs");
    publish_threads(b, "threads-32", CONNECTIONS, f);
    report_ratio_min("32 threads: tl_publish", &f[1], &f[0], 0.8, "x bare INSERT");
    report_section("tl_publish itself, 1 thread", "events/s");
    publish_threads(b, "threads-1", 1, one);
    report_ratio_min("1 thread: tl_publish", &one[1], &one[0], 0.6, "x bare INSERT");
}

/* ----------------------------------------------------------------------------------- batch -- */

static const char unnest_sql[] =
    "INSERT INTO bench_bare (type, tenant_id, data) SELECT * FROM unnest($1::text[], $2::text[], "
    "$3::jsonb[]) RETURNING \"position\", id";

struct array {
    char *data;
    int len;
};

static void put_u32(struct array *a, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        a->data[a->len++] = (char)(value >> shift);
}

/* BATCH times the same element as a binary array. */
static struct array array_of(uint32_t oid, const char *element, size_t len)
{
    struct array a = {need(malloc(20 + BATCH * (4 + len))), 0};

    put_u32(&a, 1); /* dimensions */
    put_u32(&a, 0); /* no NULLs */
    put_u32(&a, oid);
    put_u32(&a, BATCH);
    put_u32(&a, 1); /* lower bound */
    for (int i = 0; i < BATCH; i++) {
        put_u32(&a, (uint32_t)len);
        memcpy(a.data + a.len, element, len);
        a.len += (int)len;
    }
    return a;
}

/* The arrays are made for every call, as tl_publish_batch does. */
static void call_unnest(void *context)
{
    enum { TEXT_OID = 25, JSONB_OID = 3802 };
    PGconn *conn = context;
    struct statement row = {.n = 0};
    struct array arrays[3];
    PGresult *res;

    statement_row(&row);
    for (int i = 0; i < 3; i++)
        arrays[i] = array_of(i < 2 ? TEXT_OID : JSONB_OID, row.values[i], (size_t)row.lengths[i]);
    res = PQexecPrepared(
        conn, "unnest", 3, (const char *const[]){arrays[0].data, arrays[1].data, arrays[2].data},
        (const int[]){arrays[0].len, arrays[1].len, arrays[2].len}, (const int[]){1, 1, 1}, 1);
    if (PQresultStatus(res) != PGRES_TUPLES_OK || PQntuples(res) != BATCH)
        die("bare unnest INSERT", PQerrorMessage(conn));
    PQclear(res);
    for (int i = 0; i < 3; i++)
        free(arrays[i].data);
}

static void call_batch(void *context)
{
    static tl_receipt receipts[BATCH];
    static tl_new_event events[BATCH];
    tl_client *c = context;

    for (int i = 0; i < BATCH; i++)
        events[i] = *TL_NEW_EVENT(.type = event_type, .data = invoice, .tenant_id = event_tenant);
    if (tl_publish_batch(c, NULL, events, BATCH, receipts) != TL_OK)
        die("tl_publish_batch", tl_error_message(tl_client_error(c)));
}

/* COPY of the same rows, in its text format. */
struct copy {
    PGconn *conn;
    const char *sql;
    const char *rows;
    int len;
};

static void call_copy(void *context)
{
    const struct copy *copy = context;
    PGresult *res = PQexec(copy->conn, copy->sql);

    if (PQresultStatus(res) != PGRES_COPY_IN)
        die(copy->sql, PQerrorMessage(copy->conn));
    PQclear(res);
    if (PQputCopyData(copy->conn, copy->rows, copy->len) != 1 ||
        PQputCopyEnd(copy->conn, NULL) != 1)
        die(copy->sql, PQerrorMessage(copy->conn));
    res = PQgetResult(copy->conn);
    if (PQresultStatus(res) != PGRES_COMMAND_OK)
        die(copy->sql, PQerrorMessage(copy->conn));
    PQclear(res);
    PQclear(PQgetResult(copy->conn));
}

static char *copy_rows(int *ret_len)
{
    size_t size = strlen(event_type) + strlen(event_tenant) + strlen(invoice) + 4;
    char *rows = need(malloc(BATCH * size));

    *ret_len = 0;
    for (int i = 0; i < BATCH; i++)
        *ret_len +=
            snprintf(rows + *ret_len, size, "%s\t%s\t%s\n", event_type, event_tenant, invoice);
    return rows;
}

void measure_batch(const struct bench *b)
{
    enum { UNNEST, LIBRARY_BATCH, COPY_BARE, COPY_TOPIC, N };
    static struct figure f[N];
    PGconn *conn = connect_to(b->conninfo, "trunkline-bench load");
    tl_client *c = open_client(b);
    int len;
    char *rows = copy_rows(&len);
    struct copy copy_bare = {conn, "COPY bench_bare (type, tenant_id, data) FROM STDIN", rows, len};
    struct copy copy_topic = {conn, "COPY trunkline.topic_bus (type, tenant_id, data) FROM STDIN",
                              rows, len};
    struct caller bare = {conn, PQbackendPID(conn), call_unnest};
    struct caller library = {c, PQbackendPID(tl_client_pgconn(c)), call_batch};
    struct caller bare_copy = {&copy_bare, PQbackendPID(conn), call_copy};
    struct caller topic_copy = {&copy_topic, PQbackendPID(conn), call_copy};

    report_section("Publish, 1 connection, batches of 1000, durable", "events/s");
    PQclear(PQprepare(conn, "unnest", unnest_sql, 0, NULL));
    f[UNNEST] =
        (struct figure){"batch", "bare INSERT ... SELECT FROM unnest", "events/s", NULL, b->rounds};
    f[LIBRARY_BATCH] =
        (struct figure){"batch", "tl_publish_batch", "events/s", &f[UNNEST], b->rounds};
    f[COPY_BARE] = (struct figure){"batch", "bare COPY", "events/s", NULL, b->rounds};
    f[COPY_TOPIC] =
        (struct figure){"batch", "COPY into the topic", "events/s", &f[COPY_BARE], b->rounds};
    take_turns(b, f, (struct caller *const[]){&bare, &library, &bare_copy, &topic_copy}, N, 1,
               BATCH);
    report_ratio_min("batches of 1000: tl_publish_batch", &f[LIBRARY_BATCH], &f[UNNEST], 0.75,
                     "x bare unnest");
    report_bars_of("speed");
    report_ratio_min("batches of 1000: tl_publish_batch", &f[LIBRARY_BATCH], &f[UNNEST], 0.9,
                     "x bare unnest");
    report_ratio_min("batches of 1000: COPY into the topic", &f[COPY_TOPIC], &f[COPY_BARE], 0.9,
                     "x bare COPY");
    free(rows);
    PQfinish(conn);
    tl_client_close(c);
}
