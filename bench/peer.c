/*
 * peer.c: how each peer is installed, filled and consumed, at its documented best. docs/benchmarks/
 * peers.md says why these settings.
 */
#include "peer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 1000
#define GRAPHILE_BEST                                                                              \
    "{\"concurrentJobs\":24,\"maxPoolSize\":25,\"localQueue\":{\"size\":500,\"refetchDelay\":"     \
    "{\"durationMs\":10}},\"completeJobBatchDelay\":0,\"failJobBatchDelay\":0}"

struct peer peers[PEER_COUNT] = {
    {.id = "trunkline",
     .name = "Trunkline",
     .tables = "^trunkline\\.",
     .log = "^trunkline\\.leaf_",
     .is_ours = true,
     .live = {"claims of 100", "{\"claim_batch\":100}", 100, 0, "worker", 0, ""},
     .presets = {{"claims of 1000", "{\"claim_batch\":1000}", BATCH, 0, "worker", 1000, ""}}},
    {.id = "pgq",
     .name = "PgQ",
     .tables = "^pgq\\.",
     .log = "^pgq\\.event_",
     .live = {"tick 10 ms, poll 5 ms",
              "{\"ticker_period\":0.01,\"ticker_max_lag\":\"10 ms\",\"poll_ms\":5}", 0, 5, "pgq", 0,
              ""},
     .presets = {{"a tick for each 1000 events", "{\"events_per_tick\":1000,\"poll_ms\":5}", BATCH,
                  5, "pgq", 1000, ""}}},
    {.id = "graphile-worker",
     .name = "graphile-worker",
     .tables = "^graphile_worker\\.",
     .is_node = true,
     .has_client = true,
     .live = {"documented batching", GRAPHILE_BEST, 500, 0, NULL, 0, ""},
     .presets = {{"documented batching", GRAPHILE_BEST, 500, 0, NULL, 250, ""},
                 {"24 jobs at once", "{\"concurrentJobs\":24,\"maxPoolSize\":25}", 24, 0, NULL, 25,
                  ""},
                 {"default", "{}", 1, 0, NULL, 5, ""}}},
    {.id = "pg-boss",
     .name = "pg-boss",
     .tables = "^pgboss\\.",
     .is_node = true,
     .is_unprepared = true,
     .has_client = true,
     .live = {"notify, batches of 100",
              "{\"queue\":\"bench_notify\",\"batchSize\":100,\"burstWhenBatchFull\":true}", 100, 0,
              NULL, 0, "_live"},
     .presets = {{"batches of 1000, burst",
                  "{\"queue\":\"bench\",\"batchSize\":1000,\"localConcurrency\":2,"
                  "\"burstWhenBatchFull\":true,\"pollingIntervalSeconds\":0.5}",
                  BATCH, 0, NULL, 150, ""}}},
    {.id = "message-db",
     .name = "message-db",
     .tables = "^message_store\\.",
     .live = {"poll 10 ms", "{\"batch_size\":1000,\"poll_ms\":10}", BATCH, 10, "message-db", 0, ""},
     .presets = {{"batches of 1000", "{\"batch_size\":1000,\"poll_ms\":10}", BATCH, 10,
                  "message-db", 250, ""}}},
    {.id = "job-table",
     .name = "SKIP LOCKED job table",
     .tables = "^public\\.bench_jobs$",
     .live = {"LISTEN, batches of 100", "{\"batch\":100,\"listen\":true}", 100, 1000, "job-table",
              0, ""},
     .presets = {{"batches of 100", "{\"batch\":100}", 100, 1000, "job-table", 100, ""},
                 {"as written: each row by itself", "{\"batch\":100,\"commits\":\"each row\"}", 1,
                  1000, "job-table-plain", 10, ""}}},
};

static const char *script(const struct bench *b, const char *name)
{
    static char path[4096];

    snprintf(path, sizeof path, "%s/%s", b->peers, name);
    return path;
}

/* ------------------------------------------------------------------------------- statements -- */

/* "" when there is none. */
static char *noted(const struct bench *b, const struct peer *p, const char *kind,
                   const char *column)
{
    char sql[256];

    snprintf(sql, sizeof sql, "SELECT %s FROM bench_peers WHERE peer = '%s' AND kind = '%s'",
             column, p->id, kind);
    return sql_value(b->admin, sql);
}

void peer_exec(const struct bench *b, const struct peer *p, const char *kind)
{
    char *sql = noted(b, p, kind, "sql");

    if (sql[0] != '\0')
        sql_exec(b->admin, sql);
    free(sql);
}

static char *put_u32(char *into, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        *into++ = (char)(value >> shift);
    return into;
}

void statement_payloads(struct statement *st)
{
    enum { TEXT_OID = 25, HEAD = 20 };
    const uint32_t head[] = {1, 0, TEXT_OID, BATCH, 1};
    size_t each = strlen(invoice);
    char *array = need(malloc(HEAD + BATCH * (4 + each)));
    char *at = array;

    for (size_t i = 0; i < sizeof head / sizeof head[0]; i++)
        at = put_u32(at, head[i]);
    for (int i = 0; i < BATCH; i++) {
        at = put_u32(at, (uint32_t)each);
        memcpy(at, invoice, each);
        at += each;
    }
    st->values[st->n] = array;
    st->lengths[st->n] = (int)(at - array);
    st->formats[st->n++] = 1;
}

static bool load_statement(const struct bench *b, const struct peer *p, const char *kind,
                           struct statement *st)
{
    char *sql = noted(b, p, kind, "sql");
    char *parameter = noted(b, p, kind, "parameter");
    char name[64];

    if (sql[0] == '\0') {
        free(sql);
        free(parameter);
        return false;
    }
    snprintf(name, sizeof name, "%s %s", p->id, kind);
    *st = (struct statement){.name = p->is_unprepared ? NULL : need(strdup(name)), .sql = sql};
    if (parameter[0] != '\0') {
        st->values[st->n++] = parameter;
        return true;
    }
    free(parameter);
    if (strncmp(kind, "publish", 7) == 0)
        st->values[st->n++] = invoice;
    else
        statement_payloads(st);
    return true;
}

static void load_statements(const struct bench *b, struct peer *p)
{
    if (p->is_ours) {
        p->publish = (struct statement){.name = "trunkline publish", .sql = library_statement(b)};
        statement_library_row(&p->publish);
        p->publish_live = p->publish;
        return;
    }
    if (!load_statement(b, p, "publish", &p->publish) || !load_statement(b, p, "batch", &p->batch))
        die(p->name, "its install noted no statements");
    if (!load_statement(b, p, "publish_live", &p->publish_live))
        p->publish_live = p->publish;
    if (!load_statement(b, p, "batch_live", &p->batch_live))
        p->batch_live = p->batch;
    load_statement(b, p, "bulk", &p->bulk);
}

/* ---------------------------------------------------------------------------------- install -- */

static void install(const struct bench *b, struct peer *p)
{
    char command[4200];
    char line[sizeof p->version];
    FILE *out;

    if (p->is_ours) {
        snprintf(p->version, sizeof p->version, "%s", tl_version());
        p->is_there = true;
        return;
    }
    snprintf(command, sizeof command, "'%s' %s", script(b, "install"), p->id);
    out = need(popen(command, "re"));
    snprintf(p->version, sizeof p->version, "its install says nothing");
    while (fgets(line, sizeof line, out) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] != '\0')
            snprintf(p->version, sizeof p->version, "%s", line);
    }
    p->is_there = pclose(out) == 0;
}

/* What the scripts connect to is what we are connected to. */
static void export_connection(const struct bench *b)
{
    setenv("PGHOST", PQhost(b->admin), 1);
    setenv("PGPORT", PQport(b->admin), 1);
    setenv("PGUSER", PQuser(b->admin), 1);
    setenv("PGDATABASE", PQdb(b->admin), 1);
}

void peers_install(const struct bench *b)
{
    const char *const payload[] = {invoice};
    PGresult *res;

    export_connection(b);
    sql_exec(b->admin, "DROP TABLE IF EXISTS bench_peers; CREATE TABLE bench_peers (peer text NOT "
                       "NULL, kind text NOT NULL, sql text, parameter text)");
    res = PQexecParams(
        b->admin, "INSERT INTO bench_peers (peer, kind, parameter) VALUES ('all', 'payload', $1)",
        1, NULL, payload, NULL, NULL, 0);
    if (PQresultStatus(res) != PGRES_COMMAND_OK)
        die("cannot store the payload of the peers", PQerrorMessage(b->admin));
    PQclear(res);
    for (int i = 0; i < PEER_COUNT; i++) {
        struct peer *p = &peers[i];

        install(b, p);
        if (p->is_there) {
            load_statements(b, p);
            peer_exec(b, p, "reset");
            report_note("%s %s", p->name, p->version);
        } else {
            report_note("%s: not measured: %s", p->name, p->version);
        }
    }
}

/* ---------------------------------------------------------------------------------- consume -- */

int64_t peer_begin(const struct bench *b, const struct peer *p)
{
    peer_exec(b, p, "begin");
    return p->is_ours ? sql_int(b->admin, "SELECT last_value FROM trunkline.position_bus") : 0;
}

void peer_fill(const struct bench *b, const struct peer *p, const struct preset *how, int events)
{
    const struct statement *st = how->queue[0] != '\0' ? &p->batch_live : &p->batch;

    if (p->is_ours) {
        publish_backlog(b, "bus", events);
        return;
    }
    for (int i = 0; i < events / BATCH; i++) {
        PGresult *res =
            PQexecParams(b->admin, st->sql, st->n, NULL, st->values, st->lengths, st->formats, 0);

        if (PQresultStatus(res) != PGRES_TUPLES_OK)
            die(p->name, PQerrorMessage(b->admin));
        PQclear(res);
        peer_exec(b, p, "after_batch");
    }
    peer_exec(b, p, "end");
}

struct consumer *peer_worker(const struct bench *b, const struct peer *p, const struct preset *how,
                             int64_t after)
{
    char batch[16];
    char poll_ms[16];
    char sql[128];

    if (p->is_ours) {
        snprintf(sql, sizeof sql,
                 "SELECT trunkline.subscribe('bench/peers', '**', start_at => '%" PRId64 "')",
                 after);
        sql_exec(b->admin, sql);
        return consumer_start(b, "worker", "bench/peers", how->batch);
    }
    if (p->is_node)
        return consumer_spawn(
            (const char *const[]){script(b, "node"), p->id, "worker", how->settings, NULL});
    snprintf(batch, sizeof batch, "%d", how->batch);
    snprintf(poll_ms, sizeof poll_ms, "%d", how->poll_ms);
    return consumer_spawn(
        (const char *const[]){b->self, "consumer", how->kind, b->conninfo, poll_ms, batch, NULL});
}

uint64_t peer_wait(const struct bench *b, const struct peer *p, struct consumer *c, int64_t events)
{
    if (p->is_ours)
        events = sql_int(b->admin, "SELECT last_value FROM trunkline.position_bus");
    return consumer_wait(c, events);
}

struct consumed peer_stop(const struct bench *b, const struct peer *p, struct consumer *c)
{
    struct consumed seen = consumer_stop(c);

    if (p->is_ours)
        sql_exec(b->admin, "SELECT trunkline.unsubscribe('bench/peers', true)");
    return seen;
}

/* ------------------------------------------------------------------------------------ space -- */

static int64_t dead_tuples(const struct bench *b, const char *tables)
{
    char sql[400];

    snprintf(sql, sizeof sql,
             "SELECT coalesce(sum(t.dead_tuple_count), 0) FROM pg_class c JOIN pg_namespace n ON "
             "n.oid = c.relnamespace, LATERAL pgstattuple(c.oid) t WHERE c.relkind = 'r' AND "
             "n.nspname || '.' || c.relname ~ '%s'",
             tables);
    return sql_int(b->admin, sql);
}

void peer_dead_tuples(const struct bench *b, const struct peer *p, struct peer_line *l)
{
    if (sql_int(b->admin, "SELECT count(*) FROM pg_extension WHERE extname = 'pgstattuple'") == 0)
        return;
    l->dead_tuples = dead_tuples(b, p->tables);
    l->dead_in_log = p->log != NULL ? dead_tuples(b, p->log) : -1;
}

void peer_vacuum(const struct bench *b, const struct peer *p)
{
    char sql[400];
    char *tables;
    char *next;

    snprintf(
        sql, sizeof sql,
        "SELECT string_agg(format('VACUUM %%I.%%I', n.nspname, c.relname), ';') FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname || "
        "'.' || c.relname ~ '%s'",
        p->tables);
    tables = sql_value(b->admin, sql);
    for (char *one = tables; one != NULL && *one != '\0'; one = next) {
        next = strchr(one, ';');
        if (next != NULL)
            *next++ = '\0';
        sql_exec(b->admin, one);
    }
    free(tables);
}

/* ------------------------------------------------------------------------------ the clients -- */

struct consumer *peer_publisher(const struct bench *b, const struct peer *p)
{
    return consumer_spawn((const char *const[]){script(b, "node"), p->id, "publisher", NULL});
}

struct load peer_publisher_run(struct consumer *c, double seconds)
{
    char order[32];
    char line[128];
    uint64_t events;
    uint64_t elapsed_ns;
    uint64_t cpu_us;

    snprintf(order, sizeof order, "run %.3f", seconds);
    consumer_ask(c, order, line, sizeof line);
    if (sscanf(line, "%" SCNu64 " %" SCNu64 " %" SCNu64, &events, &elapsed_ns, &cpu_us) != 3)
        die("publisher", line);
    return (struct load){
        .count = events,
        .per_s = (double)events * 1e9 / (double)elapsed_ns,
        .own_cpu_share = (double)cpu_us * 1e3 / (double)elapsed_ns,
    };
}

struct consumer *ticker_start(const struct bench *b, const char *seconds)
{
    char kind[32];

    snprintf(kind, sizeof kind, "ticker %s", seconds);
    for (int i = 0; i < PEER_COUNT; i++) {
        if (strcmp(peers[i].id, "pgq") == 0) {
            if (!peers[i].is_there)
                return NULL;
            peer_exec(b, &peers[i], kind);
        }
    }
    return consumer_spawn((const char *const[]){script(b, "ticker"), seconds, NULL});
}
