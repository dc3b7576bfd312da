/*
 * latency.c: from the call that publishes to the handler, at a steady rate, beside a bare INSERT +
 * NOTIFY to a process that only listens. The stamp is taken right before the statement is sent.
 */
#include "bench.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static char stamped_data[512];
static char stamp_text[24];

void stamp_data(struct statement *st, uint64_t now_ns)
{
    snprintf(stamped_data, sizeof stamped_data, "\1{\"t\":%" PRIu64 ",%s", now_ns, invoice + 1);
    st->values[2] = stamped_data;
    st->lengths[2] = (int)strlen(stamped_data);
}

/* The notification brings the stamp: nothing needs to be read. */
static void stamp_both(struct statement *st, uint64_t now_ns)
{
    stamp_data(st, now_ns);
    snprintf(stamp_text, sizeof stamp_text, "%" PRIu64, now_ns);
    st->n = 3;
    statement_text(st, stamp_text);
}

static const char notify_sql[] =
    "WITH i AS (INSERT INTO bench_bare (type, tenant_id, data) VALUES ($1, $2, $3) "
    "RETURNING \"position\", id) SELECT \"position\", id, pg_notify('bench', $4) FROM i";

/* The notification brings the position of a row to read. */
static const char announce_sql[] =
    "WITH i AS (INSERT INTO bench_bare (type, tenant_id, data) VALUES ($1, $2, $3) "
    "RETURNING \"position\", id) SELECT \"position\", id, pg_notify('bench', \"position\"::text) "
    "FROM i";

enum { BARE, TRUNKLINE, READER, VARIANTS };

static const char *const kinds[] = {"listener", "worker", "reader"};
static const char *const names[] = {"INSERT + NOTIFY", "Trunkline", "INSERT + NOTIFY, row read"};

/* ------------------------------------------------------------------------ by a tl_publisher -- */

struct group {
    tl_client *client;
    tl_publisher *publisher;
    uint64_t *sent_ns; /* of each event */
    struct samples *samples;
    size_t done;
};

static void published(tl_status status, const tl_receipt *receipt, const tl_error *error,
                      void *userdata)
{
    struct group *g = userdata;
    struct samples *s = g->samples;

    (void)receipt;
    if (status != TL_OK)
        die("tl_publisher_submit", tl_error_message(error));
    /* of one thread, to one topic: they end in the order in which they were submitted */
    if (s->commits < MAX_SAMPLES)
        s->commit_us[s->commits++] = (double)(tl__clock_ns() - g->sent_ns[g->done]) / 1e3;
    g->done++;
}

static void wait_for_group(const struct group *g, uint64_t until_ns)
{
    uint64_t now_ns = tl__clock_ns();
    uint64_t at_us = tl_publisher_deadline_us(g->publisher);
    uint64_t at_ns = at_us < until_ns / 1000 ? at_us * 1000 : until_ns;
    uint64_t left_ns = at_ns > now_ns ? at_ns - now_ns : 0;
    struct pollfd pfd = {.fd = tl_publisher_fd(g->publisher), .events = POLLIN};
    struct timespec ts = {.tv_sec = (time_t)(left_ns / 1000000000u),
                          .tv_nsec = (long)(left_ns % 1000000000u)};

    (void)ppoll(&pfd, 1, &ts, NULL);
}

/* As pool_run_paced(), through one loop that publishes for all. */
static size_t group_run_paced(struct group *g, int per_s, double seconds)
{
    uint64_t gap_ns = 1000000000u / (uint64_t)per_s;
    size_t total = (size_t)(seconds * per_s);
    uint64_t next_ns = tl__clock_ns() + gap_ns;
    uint64_t give_up_ns = next_ns + (uint64_t)(2 * seconds * 1e9);
    char data[512];
    size_t sent = 0;

    g->sent_ns = need(calloc(total, sizeof *g->sent_ns));
    g->done = 0;
    while (g->done < total) {
        uint64_t now_ns = tl__clock_ns();
        tl_error *error = NULL;

        if (now_ns > give_up_ns)
            total = sent;
        while (sent < total && next_ns <= now_ns) {
            snprintf(data, sizeof data, "{\"t\":%" PRIu64 ",%s", next_ns, invoice + 1);
            g->sent_ns[sent++] = tl__clock_ns();
            if (tl_publisher_submit(
                    g->publisher, NULL,
                    TL_NEW_EVENT(.type = event_type, .data = data, .tenant_id = event_tenant),
                    published, g, &error) != TL_OK)
                die("tl_publisher_submit", tl_error_message(error));
            next_ns += gap_ns;
        }
        if (tl_publisher_process(g->publisher) != TL_OK)
            die("tl_publisher_process", "it has stopped");
        if (g->done < total)
            wait_for_group(g, sent < total ? next_ns : now_ns + 1000000000u);
    }
    free(g->sent_ns);
    return total;
}

static void group_open(const struct bench *b, struct group *g)
{
    if (tl_client_open(b->conninfo, TL_CLIENT_OPTIONS(.application_name = "trunkline-bench group"),
                       &g->client) != TL_OK ||
        tl_publisher_new(g->client, NULL, &g->publisher) != TL_OK)
        die("tl_publisher_new", tl_error_message(tl_client_error(g->client)));
}

static void group_close(struct group *g)
{
    tl_publisher_free(g->publisher);
    tl_client_close(g->client);
}

/* --------------------------------------------------------------------------------------- turns -- */

static void add_latencies(struct samples *s, struct consumed seen)
{
    for (size_t i = 0; i < seen.latencies && s->n < MAX_SAMPLES; i++)
        s->latency_us[s->n++] = seen.latency_us[i];
    free(seen.latency_us);
}

/* By a pool and a statement, or by a group. */
static void run(const struct bench *b, struct pool *pool, struct group *group, int variant,
                const struct statement *st, int per_s, struct samples *s, struct figure *f,
                int round)
{
    struct consumer *c;
    struct consumed seen;
    size_t sent;
    int64_t upto;

    if (variant == TRUNKLINE)
        sql_exec(b->admin, "SELECT trunkline.subscribe('bench/latency', '**')");
    c = consumer_start(b, kinds[variant], "bench/latency", 100);
    if (group != NULL)
        sent = group_run_paced(group, per_s, b->latency_round_s);
    else
        sent =
            pool_run_paced(pool, st, variant == BARE ? stamp_both : stamp_data, per_s,
                           b->latency_round_s, s->commit_us + s->commits, MAX_SAMPLES - s->commits);
    if (sent < (size_t)(b->latency_round_s * per_s))
        report_note("%s did not keep up: %zu of %.0f events sent in twice the time", names[variant],
                    sent, b->latency_round_s * per_s);
    if (group == NULL)
        s->commits = s->commits + sent < MAX_SAMPLES ? s->commits + sent : MAX_SAMPLES;
    upto = (int64_t)sent;
    if (variant == TRUNKLINE)
        upto = sql_int(b->admin, "SELECT last_value FROM trunkline.position_bus");
    consumer_wait(c, upto);
    seen = consumer_stop(c);
    if (seen.latencies != sent)
        die("latency", "not every event was seen exactly once");
    f->values[round] = f->p50_ms[round] = quantile(seen.latency_us, seen.latencies, 0.5) / 1e3;
    f->p99_ms[round] = quantile(seen.latency_us, seen.latencies, 0.99) / 1e3;
    f->p999_ms[round] = quantile(seen.latency_us, seen.latencies, 0.999) / 1e3;
    add_latencies(s, seen);
    if (variant == TRUNKLINE)
        sql_exec(b->admin, "SELECT trunkline.unsubscribe('bench/latency', true)");
}

void run_paced(const struct bench *b, struct pool *pool, const struct statement *st, int per_s,
               struct samples *s, struct figure *f, int round)
{
    run(b, pool, NULL, TRUNKLINE, st, per_s, s, f, round);
}

static void note_quantiles(const char *name, struct samples *s)
{
    double p50 = quantile(s->latency_us, s->n, 0.5) / 1e3;

    report_note("%-22s p50 %.2f  p99 %.2f  p99.9 %.2f  max %.2f ms; of it commit p50 %.2f  "
                "p99 %.2f ms (%zu events)",
                name, p50, quantile(s->latency_us, s->n, 0.99) / 1e3,
                quantile(s->latency_us, s->n, 0.999) / 1e3, quantile(s->latency_us, s->n, 1) / 1e3,
                quantile(s->commit_us, s->commits, 0.5) / 1e3,
                quantile(s->commit_us, s->commits, 0.99) / 1e3, s->n);
}

static void measure_rate(const struct bench *b, const char *section, int per_s, struct figure *f,
                         struct samples *samples)
{
    struct pool *pool = pool_open(b->conninfo, per_s > 1000 ? 32 : 8);
    struct statement st[VARIANTS] = {{.name = "notify", .sql = notify_sql},
                                     {.name = "topic", .sql = topic_sql},
                                     {.name = "announce", .sql = announce_sql}};
    int variants = f[READER].rounds != 0 ? VARIANTS : READER;

    for (int v = 0; v < variants; v++) {
        statement_row(&st[v]);
        pool_prepare(pool, &st[v]);
        samples[v].n = samples[v].commits = 0;
    }
    f[BARE] = (struct figure){section, "bare INSERT + NOTIFY to a listener", "ms", NULL, b->rounds};
    f[TRUNKLINE] =
        (struct figure){section, "INSERT into the topic to a handler", "ms", &f[BARE], b->rounds};
    for (int round = 0; round < b->rounds; round++) {
        for (int v = 0; v < variants; v++)
            run(b, pool, NULL, v, &st[v], per_s, &samples[v], &f[v], round);
    }
    for (int v = 0; v < variants; v++)
        report_figure(&f[v]);
    for (int v = 0; v < variants; v++)
        note_quantiles(names[v], &samples[v]);
    pool_close(pool);
}

/* As a program would publish that has so many. */
static void measure_group_rate(const struct bench *b, const char *section, int per_s,
                               struct samples *s)
{
    struct figure f = {section, "tl_publisher to a handler", "ms", NULL, b->rounds};
    struct group group = {.samples = s};

    s->n = s->commits = 0;
    group_open(b, &group);
    for (int round = 0; round < b->rounds; round++)
        run(b, NULL, &group, TRUNKLINE, NULL, per_s, s, &f, round);
    group_close(&group);
    report_figure(&f);
    note_quantiles("tl_publisher", s);
}

static double quantile_ms(struct samples *s, double q)
{
    return quantile(s->latency_us, s->n, q) / 1e3;
}

void measure_latency(const struct bench *b)
{
    static const char note[] =
        "ms, median of each round, from when it was to be sent; worker live, durable commits";
    static struct samples samples[VARIANTS];
    static struct figure f[VARIANTS];
    struct bench more = *b;

    /* a hundred events a round: what one differs by from the next is more than what is measured */
    more.rounds = 3 * b->rounds < MAX_ROUNDS ? 3 * b->rounds : MAX_ROUNDS;
    report_section("Latency from publish to handler at 50 events/s", note);
    sql_exec(b->admin,
             "DROP TABLE IF EXISTS bench_reader; CREATE TABLE bench_reader AS SELECT 0::bigint AS "
             "\"position\"");
    f[READER] = (struct figure){"latency-50", "the same, and it reads the row and stores its place",
                                "ms", &f[BARE], more.rounds};
    measure_rate(&more, "latency-50", 50, f, samples);
    f[READER].rounds = 0; /* the floor of an event on its own is enough */
    report_ratio_max("50 events/s: p50", &f[TRUNKLINE], &f[BARE], 1.5, "x INSERT + NOTIFY");
    report_bar_max("50 events/s: p99", quantile_ms(&samples[TRUNKLINE], 0.99), 10, "ms");
    report_bars_of("speed");
    report_ratio_max("50 events/s: p50", &f[TRUNKLINE], &f[BARE], 1.2, "x INSERT + NOTIFY");
    report_bar_max("50 events/s: p99", quantile_ms(&samples[TRUNKLINE], 0.99), 5, "ms");
    report_bars_of("core");
    report_section("Latency from publish to handler at 1000 events/s", note);
    measure_rate(b, "latency-1000", 1000, f, samples);
    report_bar_max("1000 events/s: p50", quantile_ms(&samples[TRUNKLINE], 0.5), 3, "ms");
    report_bars_of("speed");
    report_section("Latency from publish to handler at 5000 events/s", note);
    measure_rate(b, "latency-5000", 5000, f, samples);
    report_bar_max("5000 events/s: p50", quantile_ms(&samples[TRUNKLINE], 0.5), 2, "ms");
    measure_group_rate(b, "latency-5000", 5000, &samples[TRUNKLINE]);
    report_bar_max("5000 events/s, tl_publisher: p50", quantile_ms(&samples[TRUNKLINE], 0.5), 2,
                   "ms");
}
