/*
 * bench_report.c: what `trunkline bench` prints: a table, or JSON, one object a line.
 */
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "cleanup.h"
#include "json.h"
#include "out.h"

static const char *const settings_shown[] = {"server_version", "fsync", "synchronous_commit",
                                             "full_page_writes", "shared_buffers"};
enum { SETTINGS = sizeof settings_shown / sizeof *settings_shown };

/* ------------------------------------------------------------------------------------ numbers -- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

struct spread {
    double median, min, max;
};

static struct spread spread_of(double *values, int n)
{
    if (n == 0)
        return (struct spread){0};
    qsort(values, (size_t)n, sizeof *values, compare);
    return (struct spread){
        .median = n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2,
        .min = values[0],
        .max = values[n - 1],
    };
}

/* Of one member of all rounds. */
static struct spread spread_at(const struct tl__bench_result *r, size_t offset)
{
    double values[TL__BENCH_MAX_ROUNDS];

    for (int i = 0; i < r->rounds; i++)
        memcpy(&values[i], (const char *)&r->round[i] + offset, sizeof values[i]);
    return spread_of(values, r->rounds);
}
#define SPREAD(result, member) spread_at(result, offsetof(struct tl__bench_round, member))

/* Round by round: what the neighbours did in a round, they did to both. */
static struct spread ratios(const struct tl__bench_result *r, const struct tl__bench_result *base)
{
    double values[TL__BENCH_MAX_ROUNDS];
    int n = 0;

    for (int i = 0; i < r->rounds; i++)
        if (base->round[i].per_s > 0)
            values[n++] = r->round[i].per_s / base->round[i].per_s;
    return spread_of(values, n);
}

static double quantile_ms(const struct tl__histogram *h, double q)
{
    return (double)tl__histogram_quantile(h, q) / 1e6;
}

/* --------------------------------------------------------------------------------------- JSON -- */

static void add_number(struct tl__buf *b, const char *name, double value)
{
    tl__json_add_name(b, name);
    tl__buf_addf(b, "%.6g", value);
}

static void add_times(struct tl__buf *b, const char *name, const struct tl__histogram *h)
{
    if (h->count == 0)
        return;
    tl__json_add_name(b, name);
    tl__buf_add_char(b, '{');
    add_number(b, "p50_ms", quantile_ms(h, 0.5));
    add_number(b, "p99_ms", quantile_ms(h, 0.99));
    add_number(b, "p999_ms", quantile_ms(h, 0.999));
    add_number(b, "max_ms", quantile_ms(h, 1));
    tl__buf_add_char(b, '}');
}

static void add_side(struct tl__buf *b, const char *name, const struct tl__bench_result *r,
                     const struct tl__bench_result *base)
{
    tl__buf_add_char(b, '{');
    tl__json_add_name(b, "kind");
    tl__json_add_text(b, "side");
    tl__json_add_name(b, "name");
    tl__json_add_text(b, name);
    add_number(b, "events", (double)r->events);
    add_number(b, "late", (double)r->late);
    add_number(b, "events_per_s", SPREAD(r, per_s).median);
    tl__json_add_name(b, "rounds");
    for (int i = 0; i < r->rounds; i++)
        tl__buf_addf(b, "%c%.6g", i ? ',' : '[', r->round[i].per_s);
    tl__buf_add_char(b, ']');
    add_number(b, "ratio", ratios(r, base).median);
    add_times(b, "publish", &r->publish);
    add_times(b, "handle", &r->handle);
    if (SPREAD(r, server_cpu_us).median > 0)
        add_number(b, "server_cpu_us", SPREAD(r, server_cpu_us).median);
    add_number(b, "client_cpu_us", SPREAD(r, client_cpu_us).median);
    add_number(b, "wal_bytes_per_event", SPREAD(r, wal_bytes).median);
    if (r->handle.count > 0)
        add_number(b, "behind_ms", SPREAD(r, behind_ms).median);
    tl__buf_add_str(b, "}\n");
}

static int print_json(const struct tl__bench_settings *s, double mean_bytes, const PGresult *server,
                      const struct tl__bench_result *results, const struct tl__bench_left *left)
{
    struct tl__buf b = TL_BUF_INIT;

    tl__buf_add_char(&b, '{');
    tl__json_add_name(&b, "kind");
    tl__json_add_text(&b, "settings");
    tl__json_add_name(&b, "version");
    tl__json_add_text(&b, tl_version());
    for (int i = 0; i < SETTINGS; i++) {
        tl__json_add_name(&b, settings_shown[i]);
        tl__json_add_text(&b, PQgetvalue(server, 0, i));
    }
    add_number(&b, "connections", s->connections);
    tl__json_add_name(&b, "loop");
    tl__json_add_text(&b, s->rate > 0 ? "open" : "closed");
    if (s->rate > 0)
        add_number(&b, "rate", s->rate);
    add_number(&b, "seconds", s->seconds);
    add_number(&b, "warmup_s", s->warmup_s);
    add_number(&b, "rounds", s->rounds);
    add_number(&b, "batch", (double)s->batch);
    tl__json_add_name(&b, "payload");
    tl__json_add_text(&b, s->payload);
    add_number(&b, "payload_bytes", mean_bytes);
    tl__json_add_name(&b, "consumer");
    tl__buf_add_str(&b, s->has_consumer ? "true}\n" : "false}\n");
    for (int i = 0; i < TL__BENCH_SIDES; i++)
        add_side(&b, tl__bench_side_names[i], &results[i], &results[TL__BENCH_BARE]);
    tl__buf_add_char(&b, '{');
    tl__json_add_name(&b, "kind");
    tl__json_add_text(&b, "after");
    add_number(&b, "events", (double)left->events);
    add_number(&b, "dead_tuples_topic", (double)left->dead_in_topic);
    add_number(&b, "dead_tuples_elsewhere", (double)left->dead_elsewhere);
    add_number(&b, "topic_bytes_per_event", left->topic_bytes);
    add_number(&b, "bare_bytes_per_event", left->bare_bytes);
    add_number(&b, "resident_bytes", (double)left->resident_bytes);
    tl__buf_add_str(&b, "}\n");
    int rc = b.is_failed ? tl__fail(TL_E_NOMEM, NULL, "no memory for the report") : 0;
    if (rc == 0)
        fputs(b.data, stdout);
    tl__buf_done(&b);
    return rc;
}

/* -------------------------------------------------------------------------------------- table -- */

enum { CELL = 48 };

static void show_times(char cell[CELL], const struct tl__histogram *h)
{
    snprintf(cell, CELL, "-");
    if (h->count > 0)
        snprintf(cell, CELL, "%.2f  %.2f  %.2f", quantile_ms(h, 0.5), quantile_ms(h, 0.99),
                 quantile_ms(h, 0.999));
}

static void add_row(struct tl__table *t, const char *name, const struct tl__bench_result *r,
                    const struct tl__bench_result *base)
{
    struct spread rate = SPREAD(r, per_s), ratio = ratios(r, base);
    double server_us = SPREAD(r, server_cpu_us).median;
    char cells[9][CELL];

    snprintf(cells[0], CELL, "%.0f", rate.median);
    snprintf(cells[1], CELL, "%.0f .. %.0f", rate.min, rate.max);
    snprintf(cells[2], CELL, "%.2f", ratio.median);
    show_times(cells[3], &r->publish);
    show_times(cells[4], &r->handle);
    snprintf(cells[5], CELL, server_us > 0 ? "%.1f" : "-", server_us);
    snprintf(cells[6], CELL, "%.1f", SPREAD(r, client_cpu_us).median);
    snprintf(cells[7], CELL, "%.0f", SPREAD(r, wal_bytes).median);
    tl__table_add(t, (const char *const[]){name, cells[0], cells[1], cells[2], cells[3], cells[4],
                                           cells[5], cells[6], cells[7]});
}

static void print_table(const struct tl__bench_settings *s, double mean_bytes,
                        const PGresult *server, const struct tl__bench_result *results,
                        const struct tl__bench_left *left)
{
    static const char *const headers[] = {"",          "events/s",   "min .. max",
                                          "ratio",     "publish ms", "to handler ms",
                                          "server us", "client us",  "WAL bytes"};
    const struct tl__bench_result *ours = &results[TL__BENCH_TRUNKLINE];
    struct tl__table *t = tl__table_new(9, headers);

    for (int i = 0; i < SETTINGS; i++)
        printf("%s%s %s", i ? ", " : "", settings_shown[i], PQgetvalue(server, 0, i));
    printf("\n%d connections, ", s->connections);
    if (s->rate > 0)
        printf("open loop at %.6g events/s", s->rate);
    else
        printf("closed loop");
    printf(", batches of %zu, payload %s (%.0f bytes), %d turns of %.3g s by turns, %s\n\n",
           s->batch, s->payload, mean_bytes, s->rounds, s->seconds,
           s->has_consumer ? "with a consumer" : "nobody reading");
    for (int i = 0; i < TL__BENCH_SIDES; i++)
        add_row(t, tl__bench_side_names[i], &results[i], &results[TL__BENCH_BARE]);
    tl__table_print(t, stdout);
    tl__table_free(t);
    printf("\nms: p50, p99, p99.9, from %s; us: CPU time of an event; medians of the turns\n",
           s->rate > 0 ? "when the event was due" : "the call");
    for (int i = 0; i < TL__BENCH_SIDES; i++)
        if (results[i].late > 0)
            printf("%s did not keep up: %llu of %llu calls not made\n", tl__bench_side_names[i],
                   (unsigned long long)results[i].late,
                   (unsigned long long)results[i].late +
                       (unsigned long long)results[i].events / s->batch);
    if (s->has_consumer)
        printf("the consumer had everything %.1f ms after the last commit\n",
               SPREAD(ours, behind_ms).median);
    printf("dead tuples: %lld in the topic of %lld events, %lld in the tables beside it; on disk "
           "%.0f bytes an event (bare %.0f); this process %.1f MiB\n",
           (long long)left->dead_in_topic, (long long)left->events, (long long)left->dead_elsewhere,
           left->topic_bytes, left->bare_bytes, (double)left->resident_bytes / 1048576);
}

int tl__bench_report(struct tl__db *db, const struct tl__bench_settings *s, double mean_bytes,
                     const struct tl__bench_result *results, const struct tl__bench_left *left,
                     bool is_json)
{
    int rc = 0;
    TL_CLEANUP(tl__pgclearp)
    PGresult *server = tl__db_query(db, &rc,
                                    "SELECT current_setting($1), current_setting($2), "
                                    "current_setting($3), current_setting($4), current_setting($5)",
                                    SETTINGS, settings_shown);

    if (!server)
        return rc;
    if (is_json)
        return print_json(s, mean_bytes, server, results, left);
    print_table(s, mean_bytes, server, results, left);
    return 0;
}
