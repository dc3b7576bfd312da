/*
 * store_read.c: loading a stream of 100 events in a small topic and in a large one, and reading
 * categories and whole topics, beside bare indexed reads of the same rows.
 */
#include "bench.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOPIC "store" /* whose reads are planned once for a session */
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
        "'%s', '%s', topic => '" TOPIC "') a)) FROM generate_series(1, %d) v, "
        "generate_series(1, %d) s, unnest('{load,snap}'::text[]) kind",
        event_type, invoice, EVENTS, LOADED);
    sql_exec(b->admin, sql);
    snprintf(sql, sizeof sql,
             "SELECT count(trunkline.snapshot_save('snap-' || s, %d, '%s', topic => '" TOPIC "')) "
             "FROM generate_series(1, %d) s",
             EVENTS - TAIL, invoice, LOADED);
    sql_exec(b->admin, sql);
    sql_exec(b->admin, "DROP TABLE IF EXISTS bench_log; CREATE TABLE bench_log (LIKE bench_bare "
                       "INCLUDING DEFAULTS, category text, PRIMARY KEY (\"position\"))");
    sql_exec(b->admin, "INSERT INTO bench_log (" COLUMNS ", category) SELECT " COLUMNS
                       ", split_part(stream, '-', 1) FROM trunkline.topic_" TOPIC);
    sql_exec(b->admin, "CREATE UNIQUE INDEX ON bench_log (stream, version); "
                       "CREATE INDEX ON bench_log (category, \"position\")");
    sql_exec(b->admin, "VACUUM ANALYZE trunkline.leaf_" TOPIC "_0, bench_log");
}

/* Up to so many events by the owner, as no caller could: ten a stream, FILLED_CATEGORIES by turns. */
static void fill(const struct bench *b, int64_t events)
{
    int64_t first = sql_int(b->admin, "SELECT last_value + 1 FROM trunkline.position_" TOPIC);
    uint64_t start_ns = clock_ns();
    char sql[1536];

    for (int64_t from = first; from <= events; from += BARE_ROWS) {
        int64_t upto = from + BARE_ROWS - 1 < events ? from + BARE_ROWS - 1 : events;

        snprintf(
            sql, sizeof sql,
            "INSERT INTO trunkline.leaf_" TOPIC "_0 (topic_id, \"position\", id, type, stream, "
            "version, data, created_at) SELECT (SELECT topic_id FROM trunkline.topics WHERE "
            "name = '" TOPIC "'), p, gen_random_uuid(), 'shop.order.changed', "
            "format('fill%%s-%%s', p %% %d, p / %d %% (%" PRId64 " / 10 / %d + 1)), "
            "p / %d / (%" PRId64 " / 10 / %d + 1) + 1, "
            "'{\"order\": 42, \"total\": \"12.50\", \"currency\": \"EUR\", \"lines\": [1, 2, 3]}', "
            "clock_timestamp() FROM generate_series(%" PRId64 "::bigint, %" PRId64 ") p",
            FILLED_CATEGORIES, FILLED_CATEGORIES, events, FILLED_CATEGORIES, FILLED_CATEGORIES,
            events, FILLED_CATEGORIES, from, upto);
        sql_exec(b->admin, sql);
        if (from != first)
            continue;
        snprintf(sql, sizeof sql,
                 "INSERT INTO bench_log (" COLUMNS ", category) SELECT " COLUMNS
                 ", split_part(stream, '-', 1) FROM trunkline.topic_" TOPIC
                 " WHERE \"position\" >= %" PRId64,
                 first);
        sql_exec(b->admin, sql);
    }
    snprintf(sql, sizeof sql, "SELECT setval('trunkline.position_" TOPIC "', %" PRId64 ")", events);
    sql_exec(b->admin, sql);
    sql_exec(b->admin, "VACUUM ANALYZE trunkline.leaf_" TOPIC "_0, bench_log");
    sql_exec(b->admin, "CHECKPOINT");
    report_note("%" PRId64 " events made in %.0f s", events, (double)(clock_ns() - start_ns) / 1e9);
}

/* --------------------------------------------------------------------------- load of a stream -- */

enum { SELECT_BARE, READ_STREAM, LOAD_STREAM, LOAD_SNAPSHOT, LOADS };

static const struct {
    const char *name, *label, *sql;
    int rows; /* of each load */
    const char *streams;
} loads[LOADS] = {
    [SELECT_BARE] = {"bare_load", "bare SELECT by (stream, version)",
                     "SELECT " COLUMNS " FROM bench_log WHERE stream = $1 AND version > 0 ORDER BY "
                     "version LIMIT 1000",
                     EVENTS, "load"},
    [READ_STREAM] = {"read_stream", "read_stream()",
                     "SELECT * FROM trunkline.read_stream($1, max_events => 1000, topic => '" TOPIC
                     "')",
                     EVENTS, "load"},
    [LOAD_STREAM] = {"load_stream", "load_stream(), no snapshot",
                     "SELECT * FROM trunkline.load_stream($1, max_events => 1000, topic => '" TOPIC
                     "')",
                     EVENTS, "load"},
    [LOAD_SNAPSHOT] = {"load_snapshot", "load_stream(), snapshot and 5 events",
                       "SELECT * FROM trunkline.load_stream($1, max_events => 1000, topic => "
                       "'" TOPIC "')",
                       TAIL + 1, "snap"},
};

static double load_us(PGconn *conn, int v, int n)
{
    char stream[32];
    const char *value = stream;
    uint64_t start_ns;
    PGresult *res;

    snprintf(stream, sizeof stream, "%s-%d", loads[v].streams, n % LOADED + 1);
    start_ns = clock_ns();
    res = PQexecPrepared(conn, loads[v].name, 1, &value, (const int[]){(int)strlen(stream)},
                         (const int[]){1}, 1);
    if (PQresultStatus(res) != PGRES_TUPLES_OK || PQntuples(res) != loads[v].rows)
        die(loads[v].label,
            PQntuples(res) > 0 ? "gave another number of rows" : PQerrorMessage(conn));
    PQclear(res);
    return (double)(clock_ns() - start_ns) / 1e3;
}

static void measure_loads(const struct bench *b, const char *size)
{
    struct figure f[LOADS];
    static double took_us[LOADS][CALLS];
    PGconn *conn = connect_to(b->conninfo, "trunkline-bench load");
    char title[128];
    char bar[80];

    snprintf(title, sizeof title, "Load of a stream of %d events, %s events in the topic", EVENTS,
             size);
    report_section(title, "us from call to last row in the client, p50 of each round");
    for (int v = 0; v < LOADS; v++) {
        PGresult *res = PQprepare(conn, loads[v].name, loads[v].sql, 0, NULL);

        if (PQresultStatus(res) != PGRES_COMMAND_OK)
            die(loads[v].sql, PQerrorMessage(conn));
        PQclear(res);
        f[v] = (struct figure){"load", loads[v].label, "us",
                               v == SELECT_BARE ? NULL : &f[SELECT_BARE], b->rounds};
        for (int n = 0; n < LOADED; n++)
            load_us(conn, v, n);
    }
    for (int round = 0; round < b->rounds; round++) {
        for (int n = 0; n < CALLS; n++) {
            for (int v = 0; v < LOADS; v++)
                took_us[v][n] = load_us(conn, v, n);
        }
        for (int v = 0; v < LOADS; v++) {
            f[v].values[round] = quantile(took_us[v], CALLS, 0.5);
            f[v].cpu_us[round] = 0;
        }
    }
    for (int v = 0; v < LOADS; v++)
        report_figure(&f[v]);
    snprintf(bar, sizeof bar, "%s events: read_stream() of %d, p50", size, EVENTS);
    report_bar_max(bar, figure_ratio(&f[READ_STREAM], &f[SELECT_BARE]), 1.5, "x bare SELECT");
    snprintf(bar, sizeof bar, "%s events: snapshot and tail of %d, p50", size, TAIL);
    report_bar_max(bar, figure_ratio(&f[LOAD_SNAPSHOT], &f[LOAD_STREAM]), 0.5, "x full load");
    PQfinish(conn);
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
                  "SELECT * FROM trunkline.read_category('fill7', $1, 1000, topic => '" TOPIC "')",
                  BARE_CATEGORY},
    [BARE_TOPIC] = {"bare_topic", "bare SELECT by position",
                    "SELECT " COLUMNS " FROM bench_log WHERE \"position\" > $1 ORDER BY "
                    "\"position\" LIMIT 1000",
                    -1},
    [TOPIC_READ] = {"topic", "read()", "SELECT * FROM trunkline.read('" TOPIC "', $1, 1000)",
                    BARE_TOPIC},
};

/* Events a second of reading page by page to the end of what the bare table has, again and again. */
static double read_feed(PGconn *conn, int v, int64_t upto, double seconds, double *ret_cpu_us)
{
    uint64_t cpu_ns = process_cpu_ns(PQbackendPID(conn));
    uint64_t start_ns = clock_ns();
    uint64_t end_ns = start_ns + (uint64_t)(seconds * 1e9);
    uint64_t count = 0;
    int64_t after = 0;

    do {
        char position[8];
        const char *value = position;
        PGresult *res;
        int rows;

        put_int8(position, after);
        res = PQexecPrepared(conn, feeds[v].name, 1, &value, (const int[]){8}, (const int[]){1}, 1);
        rows = PQntuples(res);
        if (PQresultStatus(res) != PGRES_TUPLES_OK || (rows == 0 && after == 0))
            die(feeds[v].label, PQerrorMessage(conn));
        after = rows < 1000 ? 0 : get_int8(PQgetvalue(res, rows - 1, 0));
        if (after >= upto)
            after = 0;
        count += (uint64_t)rows;
        PQclear(res);
    } while (clock_ns() < end_ns);
    *ret_cpu_us = (double)(process_cpu_ns(PQbackendPID(conn)) - cpu_ns) / 1e3 / (double)count;
    return (double)count * 1e9 / (double)(clock_ns() - start_ns);
}

static void measure_feeds(const struct bench *b)
{
    static struct figure f[FEEDS];
    PGconn *conn = connect_to(b->conninfo, "trunkline-bench load");
    int64_t upto = sql_int(b->admin, "SELECT max(\"position\") FROM bench_log");
    double ignored;

    report_section("Reading a category and a topic, pages of 1000", "events/s");
    for (int v = 0; v < FEEDS; v++) {
        PGresult *res = PQprepare(conn, feeds[v].name, feeds[v].sql, 0, NULL);

        if (PQresultStatus(res) != PGRES_COMMAND_OK)
            die(feeds[v].sql, PQerrorMessage(conn));
        PQclear(res);
        f[v] = (struct figure){"feeds", feeds[v].label, "events/s",
                               feeds[v].base >= 0 ? &f[feeds[v].base] : NULL, b->rounds};
        read_feed(conn, v, upto, 0.3, &ignored);
    }
    for (int round = 0; round < b->rounds; round++) {
        for (int v = 0; v < FEEDS; v++)
            f[v].values[round] = read_feed(conn, v, upto, b->round_s, &f[v].cpu_us[round]);
    }
    for (int v = 0; v < FEEDS; v++)
        report_figure(&f[v]);
    report_bar_min("read_category(), pages of 1000", figure_ratio(&f[CATEGORY], &f[BARE_CATEGORY]),
                   0.6, "x bare keyset SELECT");
    report_bar_min("read() of the topic, pages of 1000",
                   figure_ratio(&f[TOPIC_READ], &f[BARE_TOPIC]), 0.6, "x bare keyset SELECT");
    PQfinish(conn);
}

void measure_store_reads(const struct bench *b)
{
    char size[32];

    make_loaded(b);
    snprintf(size, sizeof size, "%" PRId64,
             sql_int(b->admin, "SELECT count(*) FROM trunkline.topic_" TOPIC));
    measure_loads(b, size);
    fill(b, b->store_events);
    snprintf(size, sizeof size, "%" PRId64 " million", b->store_events / 1000000);
    measure_loads(b, size);
    measure_feeds(b);
}
