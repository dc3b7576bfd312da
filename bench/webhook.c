/*
 * webhook.c: web hooks of one daemon, signed, beside a bare libcurl multi loop that posts the same
 * bodies to the same receiver over as many connections; then how long an event takes at half the
 * rate that the daemon reached.
 */
#include "bench.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONCURRENCY 64
#define EVENTS 30000 /* the start of a daemon is 0.1 s of a processor */
#define PUBLISHERS 8
#define AT_ONCE 8 /* events in a commit at a steady rate: publishers share the processors */
#define MAX_COMMITS 200000

#define TEXT(x) #x
#define TEXT_OF(x) TEXT(x)

/* CPU for each request, in us. */
struct spent {
    double sender; /* the daemon, or the bare loop */
    double server; /* all processes of PostgreSQL */
    double receiver;
};

/* ------------------------------------------------------------------------------------ bare -- */

static size_t ignore(char *data, size_t size, size_t n, void *userdata)
{
    (void)data;
    (void)userdata;
    return size * n;
}

static CURL *new_request(const char *url, struct curl_slist *headers, const struct received *seen)
{
    CURL *easy = need(curl_easy_init());

    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, seen->body);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)seen->body_len);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, ignore);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    return easy;
}

static void post_all(const char *url, const struct received *seen, int count)
{
    struct curl_slist *headers = curl_slist_append(NULL, "content-type: application/json");
    CURLM *multi = need(curl_multi_init());
    CURL *all[CONCURRENCY];
    int started = 0;
    int done = 0;
    int running;

    headers = curl_slist_append(headers, "Expect:");
    for (; started < CONCURRENCY; started++) {
        all[started] = new_request(url, headers, seen);
        curl_multi_add_handle(multi, all[started]);
    }
    while (done < count) {
        CURLMsg *message;
        int left;

        curl_multi_perform(multi, &running);
        while ((message = curl_multi_info_read(multi, &left)) != NULL) {
            CURL *easy = message->easy_handle;
            long status = 0;

            curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
            if (message->data.result != CURLE_OK || status != 204)
                die("bare post", curl_easy_strerror(message->data.result));
            done++;
            curl_multi_remove_handle(multi, easy);
            if (started < count) {
                curl_multi_add_handle(multi, easy);
                started++;
            }
        }
        if (done < count)
            curl_multi_poll(multi, NULL, 0, 1000, NULL);
    }
    for (int i = 0; i < CONCURRENCY; i++)
        curl_easy_cleanup(all[i]);
    curl_multi_cleanup(multi);
    curl_slist_free_all(headers);
}

/* ---------------------------------------------------------------------------------- daemon -- */

static void subscribe(const struct bench *b, const char *url, const char *ordering, int64_t after)
{
    char sql[512];

    snprintf(sql, sizeof sql,
             "SELECT trunkline.subscribe('bench/webhook', '**', target => '%s', ordering => '%s', "
             "start_at => '%" PRId64 "')",
             url, ordering, after);
    sql_exec(b->admin, sql);
    sql_exec(b->admin, "SELECT trunkline.webhook_secret_add('bench/webhook')");
}

static pid_t start_daemon(const struct bench *b)
{
    return start_serve(b, (const char *const[]){"--allow-private", "--concurrency", "64", NULL});
}

static void stop_daemon(pid_t pid)
{
    int status;

    kill(pid, SIGTERM);
    if (waitpid(pid, &status, 0) != pid || status != 0)
        die("trunkline serve", "did not end well");
}

/* Since they started; a process that ended meanwhile is missing in the second reading, so the daemon
 * still runs then, and workers of autovacuum, which come and go, are left out. */
static uint64_t server_cpu_ns(const struct bench *b)
{
    PGresult *res = PQexec(
        b->admin, "SELECT pid FROM pg_stat_activity WHERE backend_type <> 'autovacuum worker'");
    uint64_t sum = 0;

    for (int i = 0; i < PQntuples(res); i++)
        sum += tl__process_cpu_ns((int)strtol(PQgetvalue(res, i, 0), NULL, 10));
    PQclear(res);
    return sum;
}

/* Web hooks a second, from the first that came to the last. */
static double deliver_all(const struct bench *b, struct receiver *r, const char *url,
                          const char *ordering, struct received *ret_seen, struct spent *ret_spent)
{
    int64_t after = sql_int(b->admin, "SELECT last_value FROM trunkline.position_bus");
    uint64_t server_ns;
    uint64_t receiver_ns;
    pid_t pid;

    publish_backlog(b, "bus", EVENTS);
    receiver_reset(r);
    subscribe(b, url, ordering, after);
    server_ns = server_cpu_ns(b);
    receiver_ns = receiver_cpu_ns(r);
    pid = start_daemon(b);
    *ret_seen = receiver_wait(r, EVENTS);
    ret_spent->sender += (double)tl__process_cpu_ns(pid) / 1e3 / EVENTS;
    ret_spent->server += (double)(server_cpu_ns(b) - server_ns) / 1e3 / EVENTS;
    ret_spent->receiver += (double)(receiver_cpu_ns(r) - receiver_ns) / 1e3 / EVENTS;
    stop_daemon(pid);
    if (ret_seen->count != EVENTS || ret_seen->signed_count != EVENTS)
        die("webhook", "not every event came once and signed");
    sql_exec(b->admin, "SELECT trunkline.unsubscribe('bench/webhook', true)");
    return ret_seen->per_s;
}

/* ms from the call that publishes to the receiver; 0.99 quantile at a steady rate: without the first half
 * second, in which publishers find the bell armed, notify, and commit one after the other. */
static double measure_paced(const struct bench *b, struct receiver *r, const char *url, int per_s)
{
    struct pool *pool = pool_open(b->conninfo, PUBLISHERS);
    struct statement st = {.name = "webhook",
                           .sql = "INSERT INTO trunkline.topic_bus (type, tenant_id, data) SELECT "
                                  "$1::text, $2::text, $3::jsonb FROM generate_series(1, " TEXT_OF(
                                      AT_ONCE) ") RETURNING \"position\""};
    double *commit_us = need(malloc(MAX_COMMITS * sizeof *commit_us));
    int64_t after = sql_int(b->admin, "SELECT last_value FROM trunkline.position_bus");
    struct received seen;
    size_t sent;
    size_t early;
    double p99_ms;
    pid_t pid;

    statement_row(&st);
    pool_prepare(pool, &st);
    subscribe(b, url, "key", after);
    pid = start_daemon(b);
    publish_backlog(b, "bus", 1000); /* until the daemon is at work and has its connections */
    receiver_reset(r);
    receiver_wait(r, 1000);
    receiver_reset(r);
    sent = pool_run_paced(pool, &st, stamp_data, per_s / AT_ONCE, b->latency_round_s, commit_us,
                          MAX_COMMITS);
    seen = receiver_wait(r, sent * AT_ONCE);
    stop_daemon(pid);
    sql_exec(b->admin, "SELECT trunkline.unsubscribe('bench/webhook', true)");
    /* in the order in which they came, and sorted from there on */
    early = seen.latencies > (size_t)per_s ? (size_t)per_s / 2 : 0;
    p99_ms = quantile(seen.latency_us + early, seen.latencies - early, 0.99) / 1e3;
    report_note("at %d events/s, after half a second: p99 %.1f ms from the call that publishes to "
                "the receiver; of all p50 %.1f, p99 %.1f, max %.1f ms; of it commit p50 %.1f, p99 "
                "%.1f (%zu events, %d in a commit)",
                per_s, p99_ms, quantile(seen.latency_us, seen.latencies, 0.5) / 1e3,
                quantile(seen.latency_us, seen.latencies, 0.99) / 1e3,
                quantile(seen.latency_us, seen.latencies, 1) / 1e3,
                quantile(commit_us, sent, 0.5) / 1e3, quantile(commit_us, sent, 0.99) / 1e3,
                sent * AT_ONCE, AT_ONCE);
    free(commit_us);
    pool_close(pool);
    return p99_ms;
}

void measure_webhook(const struct bench *b)
{
    static struct figure f[3];
    struct spent spent[3] = {{0}};
    struct receiver *r;
    char url[64];

    report_section("Web hooks of one daemon, signed, 64 at a time, to a receiver on this machine",
                   "requests/s");
    if (b->program == NULL) {
        report_note("not measured, give --program");
        return;
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        die("libcurl", "does not start");
    r = receiver_start();
    snprintf(url, sizeof url, "http://127.0.0.1:%d/hook", receiver_port(r));
    f[0] = (struct figure){"webhook", "bare libcurl multi loop, the same body", "requests/s", NULL,
                           b->rounds};
    f[1] = (struct figure){"webhook", "trunkline serve, signed", "requests/s", &f[0], b->rounds};
    f[2] = (struct figure){"webhook", "the same, ordering none", "requests/s", &f[0], b->rounds};
    for (int round = 0; round < b->rounds; round++) {
        struct received seen;
        uint64_t own_ns;
        uint64_t receiver_ns;

        f[1].values[round] = deliver_all(b, r, url, "key", &seen, &spent[1]);
        f[2].values[round] = deliver_all(b, r, url, "none", &seen, &spent[2]);
        receiver_reset(r);
        own_ns = tl__process_cpu_ns(getpid());
        receiver_ns = receiver_cpu_ns(r);
        post_all(url, &seen, EVENTS);
        f[0].values[round] = receiver_wait(r, EVENTS).per_s;
        receiver_ns = receiver_cpu_ns(r) - receiver_ns;
        spent[0].receiver += (double)receiver_ns / 1e3 / EVENTS;
        spent[0].sender +=
            (double)(tl__process_cpu_ns(getpid()) - own_ns - receiver_ns) / 1e3 / EVENTS;
    }
    for (int v = 0; v < 3; v++)
        report_figure(&f[v]);
    report_note(
        "CPU us for a request: bare loop %.1f, its receiver %.1f; daemon %.1f, its receiver "
        "%.1f, server %.1f; ordering none: %.1f, %.1f, %.1f",
        spent[0].sender / b->rounds, spent[0].receiver / b->rounds, spent[1].sender / b->rounds,
        spent[1].receiver / b->rounds, spent[1].server / b->rounds, spent[2].sender / b->rounds,
        spent[2].receiver / b->rounds, spent[2].server / b->rounds);
    report_ratio_min("web hooks, signed / bare libcurl", &f[1], &f[0], 0.6, "x");
    report_ratio_min("web hooks, signed, ordering none / bare libcurl", &f[2], &f[0], 0.6, "x");
    report_bar_max("web hooks at half that rate, p99 after half a second",
                   measure_paced(b, r, url, (int)(figure_median(&f[1]) / 2)), 50, "ms");
    receiver_stop(r);
    curl_global_cleanup();
}
