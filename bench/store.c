/*
 * store.c: loading a stream of 100 events in a small topic and in a large one, and reading
 * categories and whole topics, beside bare indexed reads of the same rows.
 */
#include "bench.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOADED 50 /* streams of EVENTS events: load-1, load-2, ... */
#define EVENTS 100
#define TAIL 5    /* snap-1, ... have a snapshot that so many events come after */
#define CALLS 200 /* loads of each kind in a round */
#define BARE_ROWS 1000000
#define FILLED_CATEGORIES 100

#define COLUMNS                                                                                    \
    "\"position\", id, type, source, stream, version, key, tenant_id, data, metadata, "            \
    "expires_at, created_at"

/* ---------------------------------------------------------------------------------- the rows -- */

static void make_loaded(const struct bench *b)
{
    char sql[1024];

    snprintf(
        sql, sizeof sql,
        "SELECT count((SELECT a.version FROM trunkline.append_event(format('%%s-%%s', kind, s), "
        "'%s', '%s') a)) FROM generate_series(1, %d) v, "
        "generate_series(1, %d) s, unnest('{load,snap}'::text[]) kind",
        event_type, invoice, EVENTS, LOADED);
    sql_exec(b->admin, sql);
    snprintf(sql, sizeof sql,
             "SELECT count(trunkline.snapshot_save('snap-' || s, %d, '%s')) "
             "FROM generate_series(1, %d) s",
             EVENTS - TAIL, invoice, LOADED);
    sql_exec(b->admin, sql);
    sql_exec(b->admin, "DROP TABLE IF EXISTS bench_log; CREATE TABLE bench_log (LIKE bench_bare "
                       "INCLUDING DEFAULTS, category text, PRIMARY KEY (\"position\"))");
    sql_exec(b->admin, "INSERT INTO bench_log (" COLUMNS ", category) SELECT " COLUMNS
                       ", split_part(stream, '-', 1) FROM trunkline.topic_store");
    sql_exec(b->admin, "CREATE UNIQUE INDEX ON bench_log (stream, version); "
                       "CREATE INDEX ON bench_log (category, \"position\")");
    sql_exec(b->admin, "VACUUM ANALYZE trunkline.leaf_store_0, bench_log");
}

/* So many events by the owner, as no caller could: ten a stream, the categories by turns. */
static void fill(const struct bench *b, int64_t events)
{
    int64_t first = sql_int(b->admin, "SELECT last_value + 1 FROM trunkline.position_store");
    int64_t streams = events / FILLED_CATEGORIES / 10; /* of a category */
    uint64_t start_ns = tl__clock_ns();
    char sql[1024];

    snprintf(sql, sizeof sql,
             "INSERT INTO trunkline.streams (topic_id, stream, version) SELECT 2, "
             "format('fill%%s-%%s', c, s), 10 FROM generate_series(0, %" PRId64 " - 1) s, "
             "generate_series(0, %d) c",
             streams, FILLED_CATEGORIES - 1);
    sql_exec(b->admin, sql);
    for (int64_t from = 0; from < events; from += BARE_ROWS) {
        snprintf(sql, sizeof sql,
                 "INSERT INTO trunkline.leaf_store_0 (topic_id, \"position\", id, type, stream, "
                 "version, key, data, created_at) SELECT 2, %" PRId64 " + n, gen_random_uuid(), "
                 "'shop.order.changed', s, n / %d / %" PRId64 " + 1, s, '{\"order\": 42, "
                 "\"total\": \"12.50\", \"currency\": \"EUR\", \"lines\": [1, 2, 3]}', "
                 "clock_timestamp() FROM generate_series(%" PRId64 "::bigint, %" PRId64 " - 1) n, "
                 "format('fill%%s-%%s', n %% %d, n / %d %% %" PRId64 ") s",
                 first, FILLED_CATEGORIES, streams, from, from + BARE_ROWS, FILLED_CATEGORIES,
                 FILLED_CATEGORIES, streams);
        sql_exec(b->admin, sql);
    }
    snprintf(sql, sizeof sql, "SELECT setval('trunkline.position_store', %" PRId64 ")",
             first + events - 1);
    sql_exec(b->admin, sql);
    snprintf(
        sql, sizeof sql,
        "INSERT INTO bench_log (" COLUMNS ", category) SELECT " COLUMNS
        ", split_part(stream, '-', 1) FROM trunkline.topic_store WHERE \"position\" >= %" PRId64
        " AND \"position\" < %" PRId64 " ORDER BY \"position\"",
        first, first + BARE_ROWS);
    sql_exec(b->admin, sql);
    sql_exec(b->admin, "VACUUM ANALYZE trunkline.leaf_store_0, trunkline.streams, bench_log");
    sql_exec(b->admin, "CHECKPOINT");
    report_note("%" PRId64 " events made in %.0f s", events,
                (double)(tl__clock_ns() - start_ns) / 1e9);
}

/* --------------------------------------------------------------------------- load of a stream -- */

enum {
    SELECT_BARE,
    READ_STREAM,
    LOAD_STREAM,
    LOAD_SNAPSHOT,
    SQL_LOADS,
    REPOSITORY = SQL_LOADS,
    REPOSITORY_SNAPSHOT,
    LOADS
};

static const struct {
    const char *name, *sql;
    int rows; /* of each load */
    const char *streams;
} loads[SQL_LOADS] = {
    [SELECT_BARE] = {"bare_load",
                     "SELECT " COLUMNS " FROM bench_log WHERE stream = $1 AND version > 0 ORDER BY "
                     "version LIMIT 1000",
                     EVENTS, "load"},
    [READ_STREAM] = {"read_stream", "SELECT * FROM trunkline.read_stream($1, max_events => 1000)",
                     EVENTS, "load"},
    [LOAD_STREAM] = {"load_stream", "SELECT * FROM trunkline.load_stream($1, max_events => 1000)",
                     EVENTS, "load"},
    [LOAD_SNAPSHOT] = {"load_snapshot",
                       "SELECT * FROM trunkline.load_stream($1, max_events => 1000)", TAIL + 1,
                       "snap"},
};

static const char *const load_names[LOADS] = {
    [SELECT_BARE] = "bare SELECT by (stream, version)",
    [READ_STREAM] = "read_stream()",
    [LOAD_STREAM] = "load_stream(), no snapshot",
    [LOAD_SNAPSHOT] = "load_stream(), snapshot and 5 events",
    [REPOSITORY] = "tl_repository_load, no snapshot",
    [REPOSITORY_SNAPSHOT] = "tl_repository_load, snapshot and 5",
};

/* An aggregate that costs nothing: it counts what is applied. */
static void *counter_new(void *userdata)
{
    (void)userdata;
    return calloc(1, sizeof(int));
}

static tl_status counter_apply(void *state, const tl_event *e, void *userdata)
{
    (void)e;
    (void)userdata;
    ++*(int *)state;
    return TL_OK;
}

static tl_status counter_snapshot(const void *state, char **ret_json, void *userdata)
{
    (void)state;
    (void)userdata;
    *ret_json = strdup("0");
    return *ret_json != NULL ? TL_OK : TL_E_NOMEM;
}

static tl_status counter_restore(void *state, const char *json, size_t len, void *userdata)
{
    (void)state;
    (void)json;
    (void)len;
    (void)userdata;
    return TL_OK;
}

struct loader {
    PGconn *conn;
    tl_client *client;
    tl_repository *whole, *snapshot;
};

static void open_loader(const struct bench *b, struct loader *l)
{
    tl_aggregate_type type = {.size = sizeof type,
                              .name = "load",
                              .create = counter_new,
                              .apply = counter_apply,
                              .snapshot = counter_snapshot,
                              .restore = counter_restore};

    l->conn = connect_to(b->conninfo, "trunkline-bench load");
    for (int v = 0; v < SQL_LOADS; v++) {
        PGresult *res = PQprepare(l->conn, loads[v].name, loads[v].sql, 0, NULL);

        if (PQresultStatus(res) != PGRES_COMMAND_OK)
            die(loads[v].sql, PQerrorMessage(l->conn));
        PQclear(res);
    }
    if (tl_client_open(b->conninfo, NULL, &l->client) != TL_OK ||
        tl_repository_new(l->client, &type, NULL, &l->whole) != TL_OK)
        die("tl_repository_new", tl_error_message(tl_client_error(l->client)));
    type.name = "snap";
    if (tl_repository_new(l->client, &type, NULL, &l->snapshot) != TL_OK)
        die("tl_repository_new", tl_error_message(tl_client_error(l->client)));
}

static void close_loader(struct loader *l)
{
    tl_repository_free(l->whole);
    tl_repository_free(l->snapshot);
    tl_client_close(l->client);
    PQfinish(l->conn);
}

static void load_by_sql(struct loader *l, int v, int n)
{
    char stream[32];
    const char *value = stream;
    PGresult *res;

    snprintf(stream, sizeof stream, "%s-%d", loads[v].streams, n % LOADED + 1);
    res = PQexecPrepared(l->conn, loads[v].name, 1, &value, (const int[]){(int)strlen(stream)},
                         (const int[]){1}, 1);
    if (PQresultStatus(res) != PGRES_TUPLES_OK || PQntuples(res) != loads[v].rows)
        die(load_names[v],
            PQntuples(res) > 0 ? "gave another number of rows" : PQerrorMessage(l->conn));
    PQclear(res);
}

static void load_aggregate(struct loader *l, int v, int n)
{
    tl_repository *repository = v == REPOSITORY ? l->whole : l->snapshot;
    tl_aggregate *a;
    char id[16];

    snprintf(id, sizeof id, "%d", n % LOADED + 1);
    if (tl_repository_load(repository, id, &a) != TL_OK)
        die("tl_repository_load", tl_error_message(tl_client_error(l->client)));
    if (tl_aggregate_version(a) != EVENTS ||
        *(int *)tl_aggregate_state(a) != (v == REPOSITORY ? EVENTS : TAIL))
        die("tl_repository_load", "applied another number of events");
    tl_aggregate_free(a);
}

static double load_us(struct loader *l, int v, int n)
{
    uint64_t start_ns = tl__clock_ns();

    if (v < SQL_LOADS)
        load_by_sql(l, v, n);
    else
        load_aggregate(l, v, n);
    return (double)(tl__clock_ns() - start_ns) / 1e3;
}

static void load_bar(const char *size, const char *what, double got, double bar, const char *unit)
{
    char name[80];

    snprintf(name, sizeof name, "%s events: %s, p50", size, what);
    report_bar_max(name, got, bar, unit);
}

static void measure_loads(const struct bench *b, const char *size)
{
    struct figure f[LOADS];
    static double took_us[LOADS][CALLS];
    struct loader loader;
    char title[128];

    snprintf(title, sizeof title, "Load of a stream of %d events, %s events in the topic", EVENTS,
             size);
    report_section(title, "us from call to last row in the client, p50 of each round");
    open_loader(b, &loader);
    for (int v = 0; v < LOADS; v++) {
        f[v] = (struct figure){"load", load_names[v], "us",
                               v == SELECT_BARE ? NULL : &f[SELECT_BARE], b->rounds};
        for (int n = 0; n < LOADED; n++)
            load_us(&loader, v, n);
    }
    for (int round = 0; round < b->rounds; round++) {
        for (int n = 0; n < CALLS; n++) {
            for (int v = 0; v < LOADS; v++)
                took_us[v][n] = load_us(&loader, v, n);
        }
        for (int v = 0; v < LOADS; v++)
            f[v].values[round] = quantile(took_us[v], CALLS, 0.5);
    }
    for (int v = 0; v < LOADS; v++)
        report_figure(&f[v]);
    load_bar(size, "read_stream() of 100", figure_ratio(&f[READ_STREAM], &f[SELECT_BARE]), 1.5,
             "x bare SELECT");
    load_bar(size, "tl_repository_load of 100", figure_ratio(&f[REPOSITORY], &f[SELECT_BARE]), 1.5,
             "x bare SELECT");
    load_bar(size, "snapshot and 5 events", figure_ratio(&f[LOAD_SNAPSHOT], &f[LOAD_STREAM]), 0.5,
             "x full load");
    load_bar(size, "the same by tl_repository_load",
             figure_ratio(&f[REPOSITORY_SNAPSHOT], &f[REPOSITORY]), 0.5, "x full load");
    close_loader(&loader);
}

/* ---------------------------------------------------------------------- categories and topics -- */

enum { BARE_CATEGORY, CATEGORY, BARE_TOPIC, TOPIC_READ, FEEDS };

static const struct {
    const char *name, *label, *sql;
    int base;
} feeds[FEEDS] = {
    [BARE_CATEGORY] = {"bare_category", "bare SELECT by (category, position)",
                       "SELECT " COLUMNS " FROM bench_log WHERE category = 'fill7' AND "
                       "\"position\" > $1 ORDER BY \"position\" LIMIT 1000",
                       -1},
    [CATEGORY] = {"category", "read_category()",
                  "SELECT * FROM trunkline.read_category('fill7', $1, 1000)", BARE_CATEGORY},
    [BARE_TOPIC] = {"bare_topic", "bare SELECT by position",
                    "SELECT " COLUMNS " FROM bench_log WHERE \"position\" > $1 ORDER BY "
                    "\"position\" LIMIT 1000",
                    -1},
    [TOPIC_READ] = {"topic", "read()", "SELECT * FROM trunkline.read('store', $1, 1000)",
                    BARE_TOPIC},
};

struct range {
    int64_t after, upto;
};

/* Events a second of reading page by page to the end of the range, again and again. */
static double read_feed(PGconn *conn, int v, const struct range *range, double seconds,
                        double *ret_cpu_us)
{
    uint64_t cpu_ns = tl__process_cpu_ns(PQbackendPID(conn));
    uint64_t start_ns = tl__clock_ns();
    uint64_t end_ns = start_ns + (uint64_t)(seconds * 1e9);
    uint64_t count = 0;
    int64_t after = range->after;

    do {
        char position[8];
        const char *value = position;
        PGresult *res;
        int rows;

        put_int8(position, after);
        res = PQexecPrepared(conn, feeds[v].name, 1, &value, (const int[]){8}, (const int[]){1}, 1);
        rows = PQntuples(res);
        if (PQresultStatus(res) != PGRES_TUPLES_OK || (rows == 0 && after == range->after))
            die(feeds[v].label, PQerrorMessage(conn));
        after = rows < 1000 ? range->upto : get_int8(PQgetvalue(res, rows - 1, 0));
        if (after >= range->upto)
            after = range->after;
        count += (uint64_t)rows;
        PQclear(res);
    } while (tl__clock_ns() < end_ns);
    *ret_cpu_us = (double)(tl__process_cpu_ns(PQbackendPID(conn)) - cpu_ns) / 1e3 / (double)count;
    return (double)count * 1e9 / (double)(tl__clock_ns() - start_ns);
}

static void measure_feeds(const struct bench *b)
{
    static struct figure f[FEEDS];
    PGconn *conn = connect_to(b->conninfo, "trunkline-bench load");
    struct range range = {
        sql_int(b->admin, "SELECT min(\"position\") - 1 FROM bench_log WHERE category = 'fill0'"),
        sql_int(b->admin, "SELECT max(\"position\") FROM bench_log"),
    };
    double ignored;

    report_section("Reading a category and a topic, pages of 1000", "events/s");
    for (int v = 0; v < FEEDS; v++) {
        PGresult *res = PQprepare(conn, feeds[v].name, feeds[v].sql, 0, NULL);

        if (PQresultStatus(res) != PGRES_COMMAND_OK)
            die(feeds[v].sql, PQerrorMessage(conn));
        PQclear(res);
        f[v] = (struct figure){"feeds", feeds[v].label, "events/s",
                               feeds[v].base >= 0 ? &f[feeds[v].base] : NULL, b->rounds};
        read_feed(conn, v, &range, 0.3, &ignored);
    }
    for (int round = 0; round < b->rounds; round++) {
        for (int v = 0; v < FEEDS; v++)
            f[v].values[round] = read_feed(conn, v, &range, b->round_s, &f[v].cpu_us[round]);
    }
    for (int v = 0; v < FEEDS; v++)
        report_figure(&f[v]);
    report_ratio_min("read_category(), pages of 1000", &f[CATEGORY], &f[BARE_CATEGORY], 0.6,
                     "x bare keyset SELECT");
    report_ratio_min("read() of the topic, pages of 1000", &f[TOPIC_READ], &f[BARE_TOPIC], 0.6,
                     "x bare keyset SELECT");
    PQfinish(conn);
}

/* The whole topic by the library's reader: how fast, and how large this process is meanwhile. */
static void measure_reader(const struct bench *b)
{
    uint64_t most = tl__process_resident_bytes(getpid());
    uint64_t start_ns = tl__clock_ns();
    uint64_t count = 0;
    const tl_event *e;
    tl_client *c;
    tl_reader *r;
    tl_status status;

    if (tl_client_open(b->conninfo, NULL, &c) != TL_OK || tl_reader_open_all(c, NULL, &r) != TL_OK)
        die("tl_reader_open_all", tl_error_message(tl_client_error(c)));
    while ((status = tl_reader_next(r, &e)) == TL_OK) {
        if (++count % 100000 == 0 && tl__process_resident_bytes(getpid()) > most)
            most = tl__process_resident_bytes(getpid());
    }
    if (status != TL_NOTHING)
        die("tl_reader_next", tl_error_message(tl_client_error(c)));
    report_note("tl_reader over all %" PRIu64 " events of the topic: %.0f events/s", count,
                (double)count * 1e9 / (double)(tl__clock_ns() - start_ns));
    report_bar_max("tl_reader over the whole topic: resident memory of the process",
                   (double)most / 1024 / 1024, 32, "MiB");
    tl_reader_close(r);
    tl_client_close(c);
}

void measure_store(const struct bench *b)
{
    char size[32];

    make_loaded(b);
    measure_loads(b, "10,000");
    fill(b, b->store_events);
    snprintf(size, sizeof size, "%" PRId64 " million", b->store_events / 1000000);
    measure_loads(b, size);
    measure_feeds(b);
    measure_reader(b);
}
