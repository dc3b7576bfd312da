/*
 * peers.c: Trunkline beside other event queues and logs on PostgreSQL, each by its own worker and at
 * its documented best, by turns in one run: publishing, batches, a backlog, latency; the latter two
 * also while a long transaction is open, and after it.
 */
#include "peer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTIONS 32
#define BATCH 1000
#define MAX_VARIANTS 24

void peer_line_start(struct peer_line *l, const struct peer *p, const char *measure,
                     const char *variant, const char *phase, const char *settings)
{
    *l = (struct peer_line){.peer = p->name,
                            .version = p->version,
                            .measure = measure,
                            .variant = variant,
                            .phase = phase,
                            .unit = "events/s",
                            .settings = settings,
                            .dead_tuples = -1,
                            .dead_in_log = -1};
}

/* ---------------------------------------------------------------------------------- publish -- */

enum way { QUIET, LIVE, CLIENT };

struct variant {
    const struct peer *peer; /* NULL: bare INSERT */
    enum way way;
    char name[80];
    struct consumer *client;
    struct figure figure;
    struct peer_line line;
    double wal_bytes[MAX_ROUNDS];
    double lag_ms[MAX_ROUNDS];
    double share[MAX_ROUNDS];
};

static struct load run_live(const struct bench *b, struct pool *pool, struct variant *v, int round)
{
    const struct peer *p = v->peer;
    int64_t after = peer_begin(b, p);
    struct consumer *c = peer_worker(b, p, &p->live, after);
    struct load load = pool_run(pool, &p->publish_live, b->round_s);
    uint64_t end_ns = tl__clock_ns();
    uint64_t done_ns = peer_wait(b, p, c, (int64_t)load.count);

    v->lag_ms[round] = done_ns > end_ns ? (double)(done_ns - end_ns) / 1e6 : 0;
    free(peer_stop(b, p, c).latency_us);
    return load;
}

static void publish_turn(const struct bench *b, struct pool *pool, struct variant *v,
                         const struct statement *bare, int round)
{
    double wal = wal_now(b);
    struct load load;

    if (v->peer == NULL)
        load = pool_run(pool, bare, b->round_s);
    else if (v->way == CLIENT)
        load = peer_publisher_run(v->client, b->round_s);
    else if (v->way == LIVE)
        load = run_live(b, pool, v, round);
    else
        load = pool_run(pool, &v->peer->publish, b->round_s);
    v->figure.values[round] = load.per_s;
    v->figure.cpu_us[round] = load.cpu_us;
    v->wal_bytes[round] = (wal_now(b) - wal) / (double)(load.count > 0 ? load.count : 1);
    v->share[round] = load.own_cpu_share;
    if (v->peer != NULL)
        peer_exec(b, v->peer, "reset");
}

static int publish_variants(const struct bench *b, struct variant *v)
{
    static const char *const ways[] = {"nobody reading", "worker live", "by its client"};
    int n = 0;

    v[n++].peer = NULL;
    snprintf(v[0].name, sizeof v[0].name, "bare INSERT");
    for (int way = QUIET; way <= CLIENT; way++) {
        for (int i = 0; i < PEER_COUNT; i++) {
            const struct peer *p = &peers[i];

            if (!p->is_there || (way == CLIENT && !p->has_client))
                continue;
            v[n].peer = p;
            v[n].way = (enum way)way;
            snprintf(v[n].name, sizeof v[n].name, "%s, %s", p->name, ways[way]);
            if (way == CLIENT)
                v[n].client = peer_publisher(b, p);
            n++;
        }
    }
    for (int i = 0; i < n; i++)
        v[i].figure = (struct figure){.section = "peers-publish",
                                      .name = v[i].name,
                                      .unit = "events/s",
                                      .base = i == 0 ? NULL : &v[0].figure,
                                      .rounds = b->rounds};
    return n;
}

static void report_publish(const struct bench *b, struct variant *v)
{
    static const char *const variants[] = {"quiet", "live", "client"};
    static const struct peer bare = {.name = "bare INSERT", .version = ""};
    const struct peer *p = v->peer != NULL ? v->peer : &bare;

    report_figure(&v->figure);
    peer_line_start(&v->line, p, "publish", variants[v->way], "clean",
                    v->way == LIVE ? p->live.settings : "{\"connections\":32}");
    memcpy(v->line.rounds, v->figure.values, sizeof v->line.rounds);
    v->line.n = b->rounds;
    v->line.wal_bytes = median(v->wal_bytes, b->rounds);
    v->line.client_cpu_share = median(v->share, b->rounds);
    report_peer(&v->line);
}

static const struct figure *figure_of(const struct variant *v, int n, const char *id, enum way way)
{
    for (int i = 1; i < n; i++) {
        if (v[i].way == way && strcmp(v[i].peer->id, id) == 0)
            return &v[i].figure;
    }
    return NULL;
}

static void bar_against(const struct figure *ours, const struct figure *theirs, double bar)
{
    char name[160];

    if (theirs == NULL)
        return;
    snprintf(name, sizeof name, "%s / %s", ours->name, theirs->name);
    report_ratio_min(name, ours, theirs, bar, "x");
}

static void measure_publish_peers(const struct bench *b)
{
    static struct variant v[MAX_VARIANTS];
    struct pool *pool = pool_open(b->conninfo, CONNECTIONS);
    struct statement bare = {.name = "bare", .sql = bare_sql};
    const struct figure *quiet;
    const struct figure *live;
    int n = publish_variants(b, v);

    report_section("Peers: publish, 32 connections, one event a transaction, durable",
                   "events/s; WAL of the live ones includes their workers'");
    statement_row(&bare);
    pool_exec(pool, "SET search_path = public, message_store");
    pool_prepare(pool, &bare);
    pool_run(pool, &bare, 0.3);
    for (int i = 1; i < n; i++) {
        if (v[i].way == QUIET)
            pool_prepare(pool, &v[i].peer->publish);
        if (v[i].way == LIVE && v[i].peer->publish_live.sql != v[i].peer->publish.sql)
            pool_prepare(pool, &v[i].peer->publish_live);
        if (v[i].way == QUIET)
            pool_run(pool, &v[i].peer->publish, 0.2);
        if (v[i].way == CLIENT)
            peer_publisher_run(v[i].client, 0.3);
    }
    for (int round = 0; round < b->rounds; round++) {
        sql_exec(b->admin, "CHECKPOINT");
        for (int i = 0; i < n; i++)
            publish_turn(b, pool, &v[i], &bare, round);
    }
    for (int i = 0; i < n; i++)
        report_publish(b, &v[i]);
    for (int i = 0; i < n; i++) {
        if (v[i].peer == NULL)
            report_note("bare INSERT: WAL %.0f bytes an event", v[i].line.wal_bytes);
        else if (v[i].way == LIVE)
            report_note("%s: done %.0f ms after the last commit, WAL %.0f bytes an event",
                        v[i].name, median(v[i].lag_ms, b->rounds), v[i].line.wal_bytes);
        else if (v[i].way == CLIENT)
            report_note("%s: its process takes %.0f %% of a CPU", v[i].name,
                        v[i].line.client_cpu_share * 100);
    }
    for (int i = 0; i < n; i++) {
        if (v[i].way == CLIENT && v[i].peer != NULL)
            consumer_end(v[i].client);
    }
    quiet = figure_of(v, n, "trunkline", QUIET);
    live = figure_of(v, n, "trunkline", LIVE);
    bar_against(quiet, figure_of(v, n, "pgq", QUIET), 1);
    bar_against(live, figure_of(v, n, "graphile-worker", LIVE), 5);
    bar_against(live, figure_of(v, n, "pg-boss", LIVE), 5);
    bar_against(live, figure_of(v, n, "graphile-worker", QUIET), 5);
    bar_against(live, figure_of(v, n, "pg-boss", QUIET), 5);
    pool_close(pool);
}

/* ----------------------------------------------------------------------------------- batches -- */

struct batcher {
    PGconn *conn;
    tl_client *client;
    const struct statement *st;
};

static void call_statement(void *context)
{
    struct batcher *batcher = context;
    const struct statement *st = batcher->st;
    PGresult *res = st->name != NULL ? PQexecPrepared(batcher->conn, st->name, st->n, st->values,
                                                      st->lengths, st->formats, 1)
                                     : PQexecParams(batcher->conn, st->sql, st->n, NULL, st->values,
                                                    st->lengths, st->formats, 1);

    if (PQresultStatus(res) != PGRES_TUPLES_OK)
        die(st->sql, PQerrorMessage(batcher->conn));
    PQclear(res);
}

static void call_library(void *context)
{
    static tl_receipt receipts[BATCH];
    static tl_new_event events[BATCH];
    struct batcher *batcher = context;

    for (int i = 0; i < BATCH; i++)
        events[i] = *TL_NEW_EVENT(.type = event_type, .data = invoice, .tenant_id = event_tenant);
    if (tl_publish_batch(batcher->client, NULL, events, BATCH, receipts) != TL_OK)
        die("tl_publish_batch", tl_error_message(tl_client_error(batcher->client)));
}

struct batch_variant {
    const struct peer *peer; /* NULL: bare */
    const char *suffix;
    const struct statement *st; /* NULL: tl_publish_batch */
    char name[80];
    struct batcher batcher;
    struct figure figure;
};

static int batch_variants(struct batch_variant *v, const struct statement *bare)
{
    int n = 0;

    v[n++] = (struct batch_variant){.suffix = "bare INSERT ... SELECT FROM unnest", .st = bare};
    for (int i = 0; i < PEER_COUNT; i++) {
        const struct peer *p = &peers[i];

        if (!p->is_there)
            continue;
        v[n++] = (struct batch_variant){p, "", p->is_ours ? NULL : &p->batch};
        if (p->bulk.sql != NULL)
            v[n++] = (struct batch_variant){p, ", INSERT into its current table", &p->bulk};
    }
    return n;
}

static void batch_rounds(const struct bench *b, struct batch_variant *v, int n, PGconn *conn,
                         tl_client *client)
{
    for (int i = 0; i < n; i++) {
        struct batch_variant *one = &v[i];

        snprintf(one->name, sizeof one->name, "%s%s", one->peer != NULL ? one->peer->name : "",
                 one->suffix);
        one->figure = (struct figure){"peers-batch", one->name, "events/s",
                                      i == 0 ? NULL : &v[0].figure, b->rounds};
        one->batcher = (struct batcher){conn, client, one->st};
        if (one->st != NULL && one->st->name != NULL)
            PQclear(PQprepare(conn, one->st->name, one->st->sql, 0, NULL));
    }
    for (int round = -1; round < b->rounds; round++) {
        if (round >= 0)
            sql_exec(b->admin, "CHECKPOINT");
        for (int i = 0; i < n; i++) {
            struct batch_variant *one = &v[i];
            struct caller caller = {&one->batcher,
                                    PQbackendPID(one->st != NULL ? conn : tl_client_pgconn(client)),
                                    one->st != NULL ? call_statement : call_library};
            struct load load = callers_run(&caller, 1, round < 0 ? 0.2 : b->round_s);

            if (one->peer != NULL)
                peer_exec(b, one->peer, "reset");
            if (round < 0)
                continue; /* to warm up */
            one->figure.values[round] = load.per_s * BATCH;
            one->figure.cpu_us[round] = load.cpu_us / BATCH;
        }
    }
}

static void measure_batch_peers(const struct bench *b)
{
    static struct batch_variant v[MAX_VARIANTS];
    static const struct peer none = {.name = "bare INSERT", .version = ""};
    struct statement bare = {
        .name = "unnest",
        .sql = "INSERT INTO bench_bare (type, tenant_id, data) SELECT 'financial.invoice.created', "
               "'tenant-042', d::jsonb FROM unnest($1::text[]) d RETURNING \"position\", id"};
    PGconn *conn = connect_to(b->conninfo, "trunkline-bench load");
    const struct figure *ours = NULL;
    tl_client *client;
    int n = batch_variants(v, &bare);

    report_section("Peers: publish, 1 connection, batches of 1000, durable", "events/s");
    if (tl_client_open(b->conninfo, NULL, &client) != TL_OK)
        die("tl_client_open", tl_error_message(tl_client_error(client)));
    statement_payloads(&bare);
    sql_exec(conn, "SET search_path = public, message_store");
    batch_rounds(b, v, n, conn, client);
    for (int i = 0; i < n; i++) {
        struct peer_line line;

        report_figure(&v[i].figure);
        peer_line_start(&line, v[i].peer != NULL ? v[i].peer : &none, "publish-batch",
                        v[i].suffix[0] == ',' ? "bulk" : "batch", "clean", "{\"batch\":1000}");
        memcpy(line.rounds, v[i].figure.values, sizeof line.rounds);
        line.n = b->rounds;
        report_peer(&line);
        if (v[i].peer != NULL && v[i].peer->is_ours)
            ours = &v[i].figure;
    }
    for (int i = 1; i < n; i++) {
        if (strcmp(v[i].peer->id, "pgq") == 0 && v[i].st == &v[i].peer->batch)
            report_ratio_min("batches of 1000: tl_publish_batch / PgQ insert_event", ours,
                             &v[i].figure, 1.3, "x");
    }
    PQfinish(conn);
    tl_client_close(client);
}

/* ------------------------------------------------------------------------------------- all -- */

void measure_peers(const struct bench *b)
{
    struct consumer *ticker;
    struct bench short_b = *b;

    if (b->peers == NULL)
        return;
    /* fewer of all: there are many to take turns */
    short_b.rounds = b->rounds > 3 ? (b->rounds + 2) / 3 : 1;
    short_b.round_s = b->round_s < 1 ? b->round_s : 1;
    short_b.backlog = b->backlog / 2;
    short_b.latency_round_s = b->rounds > 3 ? b->latency_round_s : 0.6;
    report_section("Peers", "as installed by their packages");
    peers_install(b);
    sql_exec(b->admin, "SET search_path = public, message_store"); /* write_message needs it */
    ticker = ticker_start(b, "0.01");
    measure_publish_peers(&short_b);
    measure_batch_peers(&short_b);
    measure_consume_peers(&short_b);
    if (ticker != NULL)
        consumer_end(ticker);
    measure_default_ticker(&short_b);
    sql_exec(b->admin, "RESET search_path");
}
