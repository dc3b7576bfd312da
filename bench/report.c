/*
 * report.c: one form of result: a table for people on stdout, and one JSON object a line in a file
 * ("kind": fact, figure, bar, note). Every number in it was measured in this run.
 */
#include "bench.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MAX_BARS 100

static FILE *out;
static const char *bar_set = "";
struct bar {
    char name[80];
    char unit[24];
    double got, bar;
    bool is_max, is_missed;
};
/* Sections are processes of their own: what they found is in memory that all share. */
static struct verdicts {
    int count;
    struct bar bars[MAX_BARS];
} * verdicts;

/* -------------------------------------------------------------------------------- the file -- */

static void put_text(const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fprintf(out, "\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            fprintf(out, "\\u%04x", *text);
        else
            fputc(*text, out);
    }
    fputc('"', out);
}

static void put_member(const char *name, const char *text)
{
    fprintf(out, ",\"%s\":", name);
    put_text(text);
}

static void put_series(const char *name, const double *values, int n)
{
    fprintf(out, ",\"%s\":[", name);
    for (int i = 0; i < n; i++)
        fprintf(out, "%s%.4g", i > 0 ? "," : "", values[i]);
    fputc(']', out);
}

/* Left out when it is 0: not measured. */
static void put_median(const char *name, const double *values, int n)
{
    double value = median(values, n);

    if (value > 0)
        fprintf(out, ",\"%s\":%.4g", name, value);
}

static void begin(const char *kind)
{
    fprintf(out, "{\"kind\":\"%s\"", kind);
}

static void end(void)
{
    fputs("}\n", out);
    fflush(out);
    fflush(stdout);
}

void report_open(const char *path)
{
    out = fopen(path, "we");
    if (out == NULL)
        die("cannot write", path);
    verdicts =
        mmap(NULL, sizeof *verdicts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (verdicts == MAP_FAILED)
        die("memory", "none left");
}

/* -------------------------------------------------------------------------------- the parts -- */

void report_fact(const char *name, const char *value)
{
    printf("%-22s %s\n", name, value);
    begin("fact");
    put_member("name", name);
    put_member("value", value);
    end();
}

void report_note(const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    printf("  %s\n", text);
    begin("note");
    put_member("text", text);
    end();
}

void report_section(const char *title, const char *note)
{
    printf("\n%s\n%s\n  %-40s %12s %22s %6s %13s %9s %6s\n", title, note, "", "median",
           "min .. max", "ratio", "min .. max", "server us", "ratio");
    begin("section");
    put_member("title", title);
    put_member("note", note);
    end();
}

static int ratios(const struct figure *f, const struct figure *base, double *ret)
{
    int n = 0;

    for (int i = 0; i < f->rounds && i < base->rounds; i++) {
        if (base->values[i] > 0)
            ret[n++] = f->values[i] / base->values[i];
    }
    return n;
}

double figure_median(const struct figure *f)
{
    return median(f->values, f->rounds);
}

double figure_ratio(const struct figure *f, const struct figure *base)
{
    double of_rounds[MAX_ROUNDS];

    return median(of_rounds, ratios(f, base, of_rounds));
}

static void spread(const double *values, int n, double *ret_min, double *ret_max)
{
    *ret_min = *ret_max = n > 0 ? values[0] : 0;
    for (int i = 1; i < n; i++) {
        *ret_min = values[i] < *ret_min ? values[i] : *ret_min;
        *ret_max = values[i] > *ret_max ? values[i] : *ret_max;
    }
}

void report_figure(const struct figure *f)
{
    int digits = figure_median(f) < 100 ? 2 : 0;
    double cpu_us = median(f->cpu_us, f->rounds);
    double min;
    double max;
    char range[64];

    spread(f->values, f->rounds, &min, &max);
    snprintf(range, sizeof range, "%.*f .. %.*f", digits, min, digits, max);
    printf("  %-40s %12.*f %22s", f->name, digits, figure_median(f), range);
    begin("figure");
    put_member("section", f->section);
    put_member("name", f->name);
    put_member("unit", f->unit);
    fprintf(out, ",\"median\":%.4g", figure_median(f));
    put_series("rounds", f->values, f->rounds);
    if (cpu_us > 0)
        put_series("server_cpu_us", f->cpu_us, f->rounds);
    put_median("p50_ms", f->p50_ms, f->rounds);
    put_median("p99_ms", f->p99_ms, f->rounds);
    put_median("p999_ms", f->p999_ms, f->rounds);
    put_median("wal_bytes_per_event", f->wal_bytes, f->rounds);
    if (f->base != NULL) {
        double of_rounds[MAX_ROUNDS];
        int n = ratios(f, f->base, of_rounds);

        spread(of_rounds, n, &min, &max);
        snprintf(range, sizeof range, "%.2f .. %.2f", min, max);
        printf(" %6.2f %13s", median(of_rounds, n), range);
        put_member("base", f->base->name);
        fprintf(out, ",\"ratio\":%.4g", median(of_rounds, n));
        put_series("ratios", of_rounds, n);
    } else {
        printf(" %6s %13s", "1", "");
    }
    if (cpu_us > 0)
        printf(" %9.1f", cpu_us);
    if (cpu_us > 0 && f->base != NULL && median(f->base->cpu_us, f->base->rounds) > 0) {
        double ratio = cpu_us / median(f->base->cpu_us, f->base->rounds);

        printf(" %6.2f", ratio);
        fprintf(out, ",\"server_cpu_ratio\":%.4g", ratio);
    }
    if (median(f->p50_ms, f->rounds) > 0)
        printf("  p50 %.2f p99 %.2f p99.9 %.2f ms", median(f->p50_ms, f->rounds),
               median(f->p99_ms, f->rounds), median(f->p999_ms, f->rounds));
    if (median(f->wal_bytes, f->rounds) > 0)
        printf("  WAL %.0f B", median(f->wal_bytes, f->rounds));
    putchar('\n');
    end();
}

void report_peer(const struct peer_line *l)
{
    begin("peer");
    put_member("peer", l->peer);
    put_member("version", l->version);
    put_member("measure", l->measure);
    put_member("variant", l->variant);
    put_member("phase", l->phase);
    put_member("unit", l->unit);
    fprintf(out, ",\"value\":%.4g", median(l->rounds, l->n));
    put_series("rounds", l->rounds, l->n);
    if (l->p999 > 0)
        fprintf(out, ",\"p50_ms\":%.4g,\"p99_ms\":%.4g,\"p999_ms\":%.4g", l->p50, l->p99, l->p999);
    if (l->dead_tuples >= 0)
        fprintf(out, ",\"dead_tuples\":%" PRId64, l->dead_tuples);
    if (l->dead_in_log >= 0)
        fprintf(out, ",\"dead_in_log\":%" PRId64, l->dead_in_log);
    if (l->wal_bytes > 0)
        fprintf(out, ",\"wal_bytes_per_event\":%.4g", l->wal_bytes);
    if (l->client_cpu_share > 0)
        fprintf(out, ",\"client_cpu_share\":%.3g", l->client_cpu_share);
    fprintf(out, ",\"settings\":%s", l->settings);
    end();
}

/* --------------------------------------------------------------------------------- verdicts -- */

void report_bars_of(const char *set)
{
    bar_set = set;
}

/* spread: NULL when there is only one value. */
static void add_bar(const char *name, double got, const double *spread_of, double bar,
                    const char *unit, bool is_max)
{
    struct bar *b = &verdicts->bars[verdicts->count];

    if (verdicts->count == MAX_BARS)
        die("too many bars", name);
    verdicts->count++;
    snprintf(b->name, sizeof b->name, "%s", name);
    snprintf(b->unit, sizeof b->unit, "%s", unit);
    b->got = got;
    b->bar = bar;
    b->is_max = is_max;
    b->is_missed = is_max ? !(got <= bar) : !(got >= bar);
    begin("bar");
    put_member("set", bar_set);
    put_member("name", name);
    fprintf(out, ",\"got\":%.4g,\"%s\":%.4g", got, is_max ? "at_most" : "at_least", bar);
    if (spread_of != NULL)
        put_series("spread", spread_of, 2);
    put_member("unit", unit);
    put_member("verdict", b->is_missed ? "MISS" : "PASS");
    end();
}

static void add_ratio(const char *name, const struct figure *f, const struct figure *base,
                      double bar, const char *unit, bool is_max)
{
    double of_rounds[MAX_ROUNDS];
    double range[2];
    int n = ratios(f, base, of_rounds);

    spread(of_rounds, n, &range[0], &range[1]);
    add_bar(name, median(of_rounds, n), range, bar, unit, is_max);
}

void report_ratio_min(const char *name, const struct figure *f, const struct figure *base,
                      double bar, const char *unit)
{
    add_ratio(name, f, base, bar, unit, false);
}

void report_ratio_max(const char *name, const struct figure *f, const struct figure *base,
                      double bar, const char *unit)
{
    add_ratio(name, f, base, bar, unit, true);
}

void report_bar_min(const char *name, double got, double bar, const char *unit)
{
    add_bar(name, got, NULL, bar, unit, false);
}

void report_bar_max(const char *name, double got, double bar, const char *unit)
{
    add_bar(name, got, NULL, bar, unit, true);
}

void report_failure(const char *section, const char *why)
{
    printf("\nsection %s: %s\n", section, why);
    begin("failure");
    put_member("section", section);
    put_member("why", why);
    end();
}

int report_close(void)
{
    int missed = 0;

    printf("\nBars\n");
    for (int i = 0; i < verdicts->count; i++) {
        const struct bar *b = &verdicts->bars[i];
        int digits = b->bar >= 1000 ? 0 : 2;

        printf("  %s  %-56s %10.*f %s  (%s %.*f)\n", b->is_missed ? "MISS" : "PASS", b->name,
               digits, b->got, b->unit, b->is_max ? "at most" : "at least", digits, b->bar);
        missed += b->is_missed;
    }
    printf("  %d of %d met\n", verdicts->count - missed, verdicts->count);
    fclose(out);
    return missed;
}
