/*
 * peers_consume.c: what the workers of the peers get through, and how long an event takes to a
 * handler: clean, while a transaction is open that keeps every dead row, and after it.
 */
#include "peer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTIONS 16
#define MIN_BACKLOG 1000

static const char *const phases[] = {"clean", "held", "recovery"};
enum { CLEAN, HELD, RECOVERY, PHASES };

/* One in ten without the last digits: whole batches. */
static int backlog_of(const struct bench *b, const struct preset *how)
{
    int events = b->backlog / 1000 * how->per_mille / 1000 * 1000;

    return events > MIN_BACKLOG ? events : MIN_BACKLOG;
}

/* ---------------------------------------------------------------------------------- backlog -- */

struct drained {
    double per_s;
    double wal_bytes;
    double client_cpu_share;
};

static struct drained drain(const struct bench *b, const struct peer *p, const struct preset *how)
{
    int events = backlog_of(b, how);
    int64_t after = peer_begin(b, p);
    struct consumer *c;
    struct consumed seen;
    uint64_t start_ns;
    uint64_t cpu_ns;
    uint64_t elapsed_ns;
    double wal;

    peer_fill(b, p, how, events);
    wal = wal_now(b);
    start_ns = tl__clock_ns();
    c = peer_worker(b, p, how, after);
    cpu_ns = tl__process_cpu_ns(
        consumer_pid(c)); /* it has begun: the start of the program is not in it */
    start_ns = tl__clock_ns();
    peer_wait(b, p, c, events);
    cpu_ns = tl__process_cpu_ns(consumer_pid(c)) - cpu_ns;
    elapsed_ns = tl__clock_ns() - start_ns;
    seen = peer_stop(b, p, c);
    free(seen.latency_us);
    if (seen.events != events)
        die(p->name, "its worker has not seen every event exactly once");
    return (struct drained){
        .per_s = (double)(events - how->batch) * 1e9 / (double)(seen.last_ns - seen.first_ns),
        .wal_bytes = (wal_now(b) - wal) / events,
        .client_cpu_share = (double)cpu_ns / (double)(elapsed_ns + 1),
    };
}

struct result {
    struct figure figure;
    struct peer_line line;
    char name[96];
};

static void drain_turn(const struct bench *b, const struct peer *p, const struct preset *how,
                       struct result *r)
{
    struct drained d = drain(b, p, how);

    r->figure.values[r->figure.rounds++] = d.per_s;
    r->line.rounds[r->line.n++] = d.per_s;
    r->line.wal_bytes = d.wal_bytes;
    r->line.client_cpu_share = d.client_cpu_share;
}

static void result_start(struct result *r, const struct peer *p, const struct preset *how,
                         int phase)
{
    static char sections[PHASES][32];

    snprintf(sections[phase], sizeof sections[phase], "peers-consume-%s", phases[phase]);
    snprintf(r->name, sizeof r->name, "%s, %s", p->name, how->name);
    r->figure = (struct figure){.section = sections[phase], .name = r->name, .unit = "events/s"};
    peer_line_start(&r->line, p, "consume", how->name, phases[phase], how->settings);
}

static void consume(const struct bench *b, int phase,
                    struct result results[PEER_COUNT][MAX_PRESETS])
{
    for (int i = 0; i < PEER_COUNT; i++) {
        for (int k = 0; k < MAX_PRESETS && peers[i].presets[k].name != NULL; k++)
            result_start(&results[i][k], &peers[i], &peers[i].presets[k], phase);
    }
    for (int round = 0; round < (phase == RECOVERY ? 1 : b->rounds); round++) {
        for (int i = 0; i < PEER_COUNT; i++) {
            const struct peer *p = &peers[i];

            /* the lesser ones once, to show what they are */
            for (int k = 0; k < MAX_PRESETS && p->is_there && p->presets[k].name != NULL; k++) {
                if (k == 0 || (round == 0 && phase == CLEAN))
                    drain_turn(b, p, &p->presets[k], &results[i][k]);
            }
        }
    }
    for (int i = 0; i < PEER_COUNT; i++) {
        for (int k = 0; k < MAX_PRESETS; k++) {
            struct result *r = &results[i][k];

            if (r->figure.rounds == 0)
                continue;
            peer_dead_tuples(b, &peers[i], &r->line);
            report_figure(&r->figure);
            report_peer(&r->line);
            if (phase == HELD && peers[i].is_ours)
                report_bar_max("long transaction held: dead rows among Trunkline's events",
                               (double)r->line.dead_in_log, 0, "");
            report_note("%s: WAL %.0f bytes an event, dead rows %" PRId64
                        ", worker's process %.0f %% of a CPU",
                        peers[i].name, r->line.wal_bytes, r->line.dead_tuples,
                        r->line.client_cpu_share * 100);
        }
    }
}

/* ---------------------------------------------------------------------------------- latency -- */

/* "t" becomes the first member of the payload, wherever it is among the parameters. */
static void stamp_payload(struct statement *st, uint64_t now_ns)
{
    static char stamped[1024];

    for (int i = 0; i < st->n; i++) {
        const char *at = st->values[i] != NULL ? strstr(st->values[i], "{\"invoice_id\"") : NULL;

        if (at == NULL)
            continue;
        st->lengths[i] = snprintf(stamped, sizeof stamped, "%.*s{\"t\":%" PRIu64 ",%s",
                                  (int)(at - st->values[i]), st->values[i], now_ns, at + 1);
        st->values[i] = stamped;
        return;
    }
    die(st->sql, "no payload among its parameters");
}

/* Everything at one rate with its worker live; false: it could not keep up, nothing is reported. */
static void latency(const struct bench *b, const struct peer *p, const struct preset *how,
                    const char *variant, int per_s, int phase)
{
    static double commit_us[MAX_SAMPLES];
    struct pool *pool = pool_open(b->conninfo, CONNECTIONS);
    int64_t after = peer_begin(b, p);
    struct consumer *c;
    struct consumed seen;
    struct peer_line line;
    size_t sent;

    pool_exec(pool, "SET search_path = public, message_store");
    pool_prepare(pool, &p->publish_live);
    c = peer_worker(b, p, how, after);
    sent = pool_run_paced(pool, &p->publish_live, stamp_payload, per_s, b->latency_round_s,
                          commit_us, MAX_SAMPLES);
    peer_wait(b, p, c, (int64_t)sent);
    seen = peer_stop(b, p, c);
    pool_close(pool);
    if (seen.latencies != sent)
        die(p->name, "not every event was seen exactly once");
    peer_line_start(&line, p, variant, how->name, phases[phase], how->settings);
    line.unit = "ms";
    line.p50 = quantile(seen.latency_us, seen.latencies, 0.5) / 1e3;
    line.p99 = quantile(seen.latency_us, seen.latencies, 0.99) / 1e3;
    line.p999 = quantile(seen.latency_us, seen.latencies, 0.999) / 1e3;
    line.rounds[line.n++] = line.p50;
    peer_dead_tuples(b, p, &line);
    report_peer(&line);
    report_note(
        "%4d/s  %-24s %-24s p50 %8.2f  p99 %8.2f  p99.9 %8.2f ms; commit p50 %.2f; dead rows "
        "%" PRId64,
        per_s, p->name, how->name, line.p50, line.p99, line.p999,
        quantile(commit_us, sent < MAX_SAMPLES ? sent : MAX_SAMPLES, 0.5) / 1e3, line.dead_tuples);
    free(seen.latency_us);
}

static void latencies(const struct bench *b, int phase)
{
    for (int i = 0; i < PEER_COUNT; i++) {
        if (!peers[i].is_there)
            continue;
        latency(b, &peers[i], &peers[i].live, "latency-50", 50, phase);
        latency(b, &peers[i], &peers[i].live, "latency-1000", 1000, phase);
    }
}

/* ----------------------------------------------------------------------------------- phases -- */

/* A report that takes long: it holds back vacuum, and having written, every snapshot's xmin. */
static PGconn *hold(const struct bench *b)
{
    PGconn *conn = connect_to(b->conninfo, "trunkline-bench long transaction");

    sql_exec(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    sql_exec(conn, "SELECT pg_current_xact_id()");
    return conn;
}

void measure_consume_peers(const struct bench *b)
{
    static struct result results[PHASES][PEER_COUNT][MAX_PRESETS];
    PGconn *holder = NULL;

    sql_exec(b->admin, "DO $$ BEGIN IF EXISTS (SELECT FROM pg_available_extensions WHERE name = "
                       "'pgstattuple') THEN CREATE EXTENSION IF NOT EXISTS pgstattuple; END IF; "
                       "END $$");
    for (int phase = CLEAN; phase < PHASES; phase++) {
        char title[96];
        char note[128];

        if (phase == HELD)
            holder = hold(b);
        if (phase == RECOVERY) {
            PQfinish(holder);
            for (int i = 0; i < PEER_COUNT; i++) {
                if (peers[i].is_there)
                    peer_vacuum(b, &peers[i]);
            }
        }
        snprintf(title, sizeof title, "Peers: backlog by one worker: %s", phases[phase]);
        snprintf(note, sizeof note, "events/s%s",
                 phase == HELD       ? "; a transaction is open all the time"
                 : phase == RECOVERY ? "; it has ended, and VACUUM has been here"
                                     : "");
        report_section(title, note);
        consume(b, phase, results[phase]);
        snprintf(title, sizeof title, "Peers: latency from publish to handler: %s", phases[phase]);
        report_section(title, "ms, from when it was to be sent; worker live, durable commits");
        latencies(b, phase);
        for (int i = 1; i < PEER_COUNT && phase == CLEAN; i++) {
            if (peers[i].is_there && strcmp(peers[i].id, "graphile-worker") == 0)
                report_ratio_min("backlog: Trunkline / graphile-worker's best preset",
                                 &results[phase][0][0].figure, &results[phase][i][0].figure, 5,
                                 "x");
        }
    }
}

void measure_default_ticker(const struct bench *b)
{
    static const struct preset plain = {
        "default ticker",
        "{\"ticker_period\":1,\"ticker_max_lag\":\"3 seconds\",\"poll_ms\":5}",
        0,
        5,
        "pgq",
        0,
        ""};
    struct bench long_b = *b;
    struct consumer *ticker = b->rounds > 1 ? ticker_start(b, "1") : NULL;

    if (ticker == NULL)
        return;
    report_section("Peers: latency of PgQ with its default ticker", "ms");
    long_b.latency_round_s = 8;
    for (int i = 0; i < PEER_COUNT; i++) {
        if (strcmp(peers[i].id, "pgq") == 0)
            latency(&long_b, &peers[i], &plain, "latency-50", 50, CLEAN);
    }
    consumer_end(ticker);
}
