/*
 * cmd_demo.c: trunkline demo: real events through everything, and a check that it was right.
 *
 *   this process   publishes, runs a C handler (a worker on a thread), receives webhooks
 *   child process  trunkline serve: delivers to the webhook and to a SQL function
 *
 * All of it happens on the topic "demo" and in the schema trunkline_demo; an earlier demo's are
 * replaced. The subscriptions go in the end, the events stay for a look.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "buf.h"
#include "cleanup.h"
#include "clock.h"
#include "commands.h"
#include "database.h"
#include "demo_daemon.h"
#include "demo_events.h"
#include "demo_ledger.h"
#include "demo_receiver.h"
#include "out.h"

#define TOPIC "demo"
enum { WEBHOOK, ISSUES, COUNT, MAX_REPOSITORIES = 64 };
static const uint64_t READY_TIMEOUT_US = 30000000, CATCH_UP_TIMEOUT_US = 30000000,
                      REFRESH_US = 200000;

struct demo {
    const struct tl__args *args;
    struct tl__db db;
    struct tl__demo_event *events; /* the data set */
    size_t event_count;
    struct tl__demo_ledger ledger;
    struct tl__demo_receiver *receiver;
    uint16_t port;
    struct tl__demo_daemon *daemon;
    tl_client *worker_client;
    tl_worker *worker;
    pthread_t worker_thread;
    bool has_worker_thread, is_live, has_drawn;
    int signal_fd;           /* SIGINT and SIGTERM */
    int64_t seen_handled;    /* rows of trunkline_demo.handled taken into the ledger */
    uint64_t paced, pace_us; /* events of the stream and how long it took */
    uint64_t shown_at_us;
};

/* ------------------------------------------------------------------------------------ set-up -- */

/* Several statements, all or none. */
static int run_script(struct demo *d, const char *sql)
{
    PGresult *result = PQexec(tl_client_pgconn(d->db.client), sql);
    ExecStatusType status = PQresultStatus(result);
    int rc = 0;

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
        tl__error(message ? message : PQerrorMessage(tl_client_pgconn(d->db.client)),
                  PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL),
                  PQresultErrorField(result, PG_DIAG_MESSAGE_HINT));
        rc = tl_status_exit_code(TL_E_SERVER);
    }
    PQclear(result);
    return rc;
}

static int query_only(struct demo *d, const char *sql)
{
    int rc = 0;

    PQclear(tl__db_query(&d->db, &rc, sql, 0, NULL));
    return rc;
}

static int lock_out_others(struct demo *d)
{
    int rc = 0;
    TL_CLEANUP(tl__pgclearp)
    PGresult *r = tl__db_query(&d->db, &rc,
                               "SELECT pg_try_advisory_lock(hashtext('trunkline.demo'))", 0, NULL);

    if (r && *PQgetvalue(r, 0, 0) != 't')
        return tl__fail(TL_E_CONFLICT, NULL, "another demo is running on this database");
    return rc;
}

static int drop_subscriptions(struct demo *d)
{
    return query_only(d,
                      "SELECT @schema@.unsubscribe(name, true) FROM @schema@.subscription_status "
                      "WHERE topic = '" TOPIC "'");
}

static int set_up_schema(struct demo *d)
{
    int rc;

    if ((rc = tl__db_migrate(&d->db)) || (rc = lock_out_others(d)) ||
        (rc = drop_subscriptions(d)) ||
        (rc = query_only(d, "SELECT @schema@.drop_topic(topic, true) FROM @schema@.topic_status "
                            "WHERE topic = '" TOPIC "'")))
        return rc;
    tl_status status = tl_topic_create(d->db.client, TOPIC, NULL);
    if (status != TL_OK)
        return tl__fail_client(status, d->db.client);
    return run_script(d, tl__demo_file("demo.sql")->text);
}

static int subscribe(struct demo *d, int channel, const char *target)
{
    const struct tl__demo_channel *c = &d->ledger.channels[channel];
    tl_status status = tl_subscribe(
        d->db.client, c->subscription, c->pattern,
        TL_SUBSCRIBE_OPTIONS(.topic = TOPIC, .target = target, .ordering = TL_ORDERING_TOTAL));

    return status == TL_OK ? 0 : tl__fail_client(status, d->db.client);
}

static void on_webhook(int64_t position, void *userdata)
{
    struct demo *d = userdata;

    tl__demo_ledger_received(&d->ledger, WEBHOOK, position, tl__clock_us(), -1);
}

static int start_receiver(struct demo *d)
{
    char target[64], why[128];

    d->port = (uint16_t)tl__args_count(d->args, "port", 0);
    d->receiver = tl__demo_receiver_start(&d->port, on_webhook, d);
    if (!d->receiver && errno == EADDRINUSE)
        return tl__fail(TL_E_CONFLICT, "leave --port out to take any free one", "port %d is in use",
                        d->port);
    if (!d->receiver)
        return tl__fail(TL_E_SERVER, NULL, "cannot listen on 127.0.0.1:%d: %s", d->port,
                        strerror_r(errno, why, sizeof why));
    snprintf(target, sizeof target, "http://127.0.0.1:%d/hook", d->port);
    return subscribe(d, WEBHOOK, target);
}

/* The C handler: every event of the topic. */
static tl_verdict on_event(tl_delivery *delivery, void *userdata)
{
    struct demo *d = userdata;

    tl__demo_ledger_received(&d->ledger, COUNT, tl_event_position(tl_delivery_event(delivery)),
                             tl__clock_us(), -1);
    return TL_DONE;
}

static void *run_worker(void *userdata)
{
    struct demo *d = userdata;
    tl_status status = tl_worker_run(d->worker);

    if (status != TL_OK)
        tl__fail_error(status, tl_worker_error(d->worker));
    return NULL;
}

static int start_worker(struct demo *d)
{
    tl_client_options options = tl__db_client_options(d->args, &d->db);
    tl_router *router = NULL;
    tl_status status = tl_client_open(d->db.conninfo, &options, &d->worker_client);

    if (status == TL_OK)
        status = tl_router_new("github", &router);
    if (status == TL_OK) /* the prefix makes it github.** */
        status = tl_router_on(
            router, "**", on_event, d,
            TL_ROUTE_OPTIONS(.name = "count", .subscribe = {.size = sizeof(tl_subscribe_options),
                                                            .topic = TOPIC,
                                                            .ordering = TL_ORDERING_TOTAL}));
    if (status == TL_OK)
        status = tl_worker_new(d->worker_client, "demo", router, NULL, &d->worker);
    tl_router_free(router);
    if (status != TL_OK)
        return tl__fail_client(status, d->worker_client);
    d->has_worker_thread = pthread_create(&d->worker_thread, NULL, run_worker, d) == 0;
    return d->has_worker_thread ? 0 : tl__fail(TL_E_NOMEM, NULL, "cannot start a thread");
}

static int start_daemon(struct demo *d)
{
    bool is_inherited = d->db.source == TL__DB_EMBEDDED || d->db.source == TL__DB_LIBPQ;

    d->daemon = tl__demo_daemon_start(is_inherited ? NULL : d->db.conninfo, d->db.schema);
    if (d->daemon && tl__demo_daemon_wait_ready(d->daemon, READY_TIMEOUT_US))
        return 0;
    tl__error("trunkline serve does not start", d->daemon ? tl__demo_daemon_log(d->daemon) : NULL,
              NULL);
    return tl_status_exit_code(TL_E_SERVER);
}

static int set_up(struct demo *d)
{
    int rc = set_up_schema(d);

    if (rc == 0)
        rc = start_receiver(d);
    if (rc == 0)
        rc = subscribe(d, ISSUES, "sql:trunkline_demo.on_issue");
    return rc || (rc = start_worker(d)) ? rc : start_daemon(d);
}

/* ------------------------------------------------------------------------------------- table -- */

/* Rows that the SQL handler has left since the last time. */
static int take_handled(struct demo *d)
{
    char after[24];
    int rc = 0;

    snprintf(after, sizeof after, "%lld", (long long)d->seen_handled);
    TL_CLEANUP(tl__pgclearp)
    PGresult *r = tl__db_query(&d->db, &rc,
                               "SELECT n, \"position\", latency_us FROM trunkline_demo.handled "
                               "WHERE n > $1::bigint ORDER BY n",
                               1, (const char *const[]){after});
    for (int i = 0; r && i < PQntuples(r); i++) {
        d->seen_handled = strtoll(PQgetvalue(r, i, 0), NULL, 10);
        tl__demo_ledger_received(&d->ledger, ISSUES, strtoll(PQgetvalue(r, i, 1), NULL, 10), 0,
                                 strtoll(PQgetvalue(r, i, 2), NULL, 10));
    }
    return rc;
}

static const char *milliseconds(int64_t us, char text[24])
{
    if (us < 0)
        return NULL;
    snprintf(text, 24, "%.1f", (double)us / 1000);
    return text;
}

static void draw(struct demo *d, const char *phase)
{
    static const char *const headers[] = {"subscription", "target",   "pattern", "selected",
                                          "delivered",    "p50 (ms)", "p99 (ms)"};
    struct tl__table *table = tl__table_new(7, headers);

    for (int i = 0; i < TL__DEMO_CHANNELS; i++) {
        const struct tl__demo_channel *c = &d->ledger.channels[i];
        struct tl__demo_summary s;
        char selected[24], delivered[24], p50[24], p99[24];
        tl__demo_ledger_summary(&d->ledger, i, &s);
        snprintf(selected, sizeof selected, "%zu", s.selected);
        snprintf(delivered, sizeof delivered, "%zu", s.delivered);
        tl__table_add(table, (const char *const[]){c->subscription, c->target, c->pattern, selected,
                                                   delivered, milliseconds(s.p50_us, p50),
                                                   milliseconds(s.p99_us, p99)});
    }
    if (d->has_drawn)
        printf("\033[%dA\033[J", TL__DEMO_CHANNELS + 2);
    printf("published %zu events: %s\n", tl__demo_ledger_published_count(&d->ledger), phase);
    tl__table_print(table, stdout);
    fflush(stdout);
    d->has_drawn = d->is_live;
    d->shown_at_us = tl__clock_us();
    tl__table_free(table);
}

static int refresh(struct demo *d, const char *phase)
{
    if (tl__clock_us() - d->shown_at_us < REFRESH_US)
        return 0;
    int rc = take_handled(d);
    if (d->is_live)
        draw(d, phase);
    d->shown_at_us = tl__clock_us();
    return rc;
}

/* Wait for a signal until the deadline; true when one came. */
static bool wait_signal(struct demo *d, uint64_t deadline_us)
{
    struct pollfd p = {.fd = d->signal_fd, .events = POLLIN};
    int timeout_ms = tl__poll_ms(tl__clock_us(), deadline_us);

    return poll(&p, 1, timeout_ms) > 0;
}

/* ----------------------------------------------------------------------------------- publish -- */

static tl_new_event new_event(const struct tl__demo_event *e)
{
    return (tl_new_event){.size = sizeof(tl_new_event),
                          .type = e->type,
                          .data = e->data,
                          .data_len = e->data_len,
                          .key = e->key,
                          .source = "github"};
}

static int publish_all(struct demo *d)
{
    tl_new_event *events = calloc(d->event_count, sizeof *events);
    tl_receipt *receipts = calloc(d->event_count, sizeof *receipts);
    tl_status status = TL_E_NOMEM;

    for (size_t i = 0; events && receipts && i < d->event_count; i++)
        events[i] = new_event(&d->events[i]);
    uint64_t now = tl__clock_us();
    if (events && receipts)
        status = tl_publish_batch(d->db.client, TOPIC, events, d->event_count, receipts);
    for (size_t i = 0; status == TL_OK && i < d->event_count; i++)
        tl__demo_ledger_published(&d->ledger, receipts[i].position, &d->events[i], now, false);
    free(events);
    free(receipts);
    return status == TL_OK ? 0 : tl__fail_client(status, d->db.client);
}

static int publish_one(struct demo *d, const struct tl__demo_event *event)
{
    tl_new_event e = new_event(event);
    tl_receipt receipt;
    uint64_t now = tl__clock_us();
    tl_status status = tl_publish(d->db.client, TOPIC, &e, &receipt);

    if (status != TL_OK)
        return tl__fail_client(status, d->db.client);
    tl__demo_ledger_published(&d->ledger, receipt.position, event, now, true);
    d->paced++;
    return 0;
}

static int stream(struct demo *d)
{
    uint64_t rate = tl__args_count(d->args, "rate", 200);
    uint64_t start = tl__clock_us(), next = start;
    uint64_t end = start + tl__args_duration_us(d->args, "for", 8000000);
    size_t i = 0;

    while (next < end) {
        int rc = publish_one(d, &d->events[i++ % d->event_count]);
        if (rc || (rc = refresh(d, "streaming")))
            return rc;
        uint64_t now = tl__clock_us();
        next =
            next + 1000000 / rate > now ? next + 1000000 / rate : now; /* no bursts to catch up */
        /* poll(2) would round up to whole milliseconds: good enough for a pace */
        if (next > now && wait_signal(d, next))
            return tl_status_exit_code(TL_E_CANCELLED);
    }
    d->pace_us = tl__clock_us() - start;
    return 0;
}

/* Until every subscription has as many events as its pattern selects, or the time is over: the
 * check that follows tells which. */
static int catch_up(struct demo *d, const char *phase)
{
    uint64_t deadline = tl__clock_us() + CATCH_UP_TIMEOUT_US;

    for (;;) {
        bool is_complete = true;
        int rc = take_handled(d);
        for (int i = 0; i < TL__DEMO_CHANNELS; i++) {
            struct tl__demo_summary s;
            tl__demo_ledger_summary(&d->ledger, i, &s);
            is_complete = is_complete && s.delivered >= s.selected;
        }
        if (rc || is_complete || tl__clock_us() > deadline)
            return rc;
        if ((rc = refresh(d, phase)))
            return rc;
        if (wait_signal(d, tl__clock_us() + 10000))
            return tl_status_exit_code(TL_E_CANCELLED);
    }
}

/* ------------------------------------------------------------------------------------- check -- */

static int check_open_issues(struct demo *d, char *why, size_t size, size_t *ret_repositories)
{
    struct tl__demo_repository expected[MAX_REPOSITORIES];
    size_t count = tl__demo_ledger_open_issues(&d->ledger, d->ledger.channels[ISSUES].pattern,
                                               expected, MAX_REPOSITORIES);
    int rc = 0;
    TL_CLEANUP(tl__pgclearp)
    PGresult *r = tl__db_query(
        &d->db, &rc, "SELECT repository, open, events FROM trunkline_demo.demo_open_issues", 0,
        NULL);

    if (!r)
        return rc;
    *ret_repositories = count;
    if ((size_t)PQntuples(r) != count)
        snprintf(why, size, "demo_open_issues has %d repositories, the input has %zu", PQntuples(r),
                 count);
    for (int i = 0; !*why && i < PQntuples(r); i++) {
        size_t k = 0;
        while (k < count && strcmp(expected[k].name, PQgetvalue(r, i, 0)) != 0)
            k++;
        long long open = strtoll(PQgetvalue(r, i, 1), NULL, 10);
        long long events = strtoll(PQgetvalue(r, i, 2), NULL, 10);
        if (k == count || expected[k].open != open || expected[k].events != events)
            snprintf(why, size, "demo_open_issues says %s has %lld open after %lld events",
                     PQgetvalue(r, i, 0), open, events);
    }
    return 0;
}

static int check(struct demo *d, size_t *ret_repositories)
{
    char why[300] = "";
    int rc = 0;

    for (int i = 0; !*why && i < TL__DEMO_CHANNELS; i++)
        tl__demo_ledger_check(&d->ledger, i, why, sizeof why);
    if (!*why)
        rc = check_open_issues(d, why, sizeof why, ret_repositories);
    if (!*why)
        return rc;
    tl__error("the demo went wrong", why, tl__demo_daemon_log(d->daemon));
    return tl_status_exit_code(TL_E_SERVER);
}

static void print_json(struct demo *d, size_t repositories)
{
    printf("{\"published\":%zu,\"stream_per_s\":%.0f,\"repositories\":%zu,\"subscriptions\":[",
           tl__demo_ledger_published_count(&d->ledger),
           (double)d->paced * 1e6 / (double)(d->pace_us ? d->pace_us : 1), repositories);
    for (int i = 0; i < TL__DEMO_CHANNELS; i++) {
        struct tl__demo_summary s;
        tl__demo_ledger_summary(&d->ledger, i, &s);
        printf("%s{\"name\":\"%s\",\"selected\":%zu,\"delivered\":%zu,\"p50_us\":%lld,"
               "\"p99_us\":%lld}",
               i ? "," : "", d->ledger.channels[i].subscription, s.selected, s.delivered,
               (long long)s.p50_us, (long long)s.p99_us);
    }
    puts("]}");
}

static void print_result(struct demo *d, size_t repositories)
{
    char phase[64];

    if (tl__args_has(d->args, "json")) {
        print_json(d, repositories);
        return;
    }
    snprintf(phase, sizeof phase, "%zu at once, %llu at %.0f/s", d->event_count,
             (unsigned long long)d->paced, (double)d->paced * 1e6 / (double)d->pace_us);
    draw(d, phase);
    printf("all right: every subscription got exactly what its pattern selects, in order; the "
           "table of open issues (%zu repositories) is what the input says\n",
           repositories);
}

static void stay(struct demo *d)
{
    printf("\nthe daemon stays up; in another terminal (ctrl-c ends it):\n"
           "  trunkline tail --topic " TOPIC "\n"
           "  trunkline publish --topic " TOPIC " github.issues.opened "
           "'{\"action\":\"opened\",\"repository\":{\"full_name\":\"me/mine\"},"
           "\"issue\":{\"number\":1}}'\n"
           "  psql \"$(trunkline db -q)\" -c 'table trunkline_demo.demo_open_issues'\n"
           "  trunkline subscriptions\n");
    fflush(stdout);
    wait_signal(d, UINT64_MAX);
}

/* --------------------------------------------------------------------------------------- end -- */

static int tear_down(struct demo *d, int rc)
{
    int daemon_rc = tl__demo_daemon_stop(d->daemon);

    if (d->has_worker_thread) {
        tl_worker_stop(d->worker);
        pthread_join(d->worker_thread, NULL);
    }
    tl_worker_free(d->worker);
    tl_client_close(d->worker_client);
    tl__demo_receiver_stop(d->receiver);
    if (d->db.client && d->receiver && drop_subscriptions(d) && rc == 0)
        rc = tl_status_exit_code(TL_E_SERVER);
    tl__demo_ledger_done(&d->ledger);
    tl__demo_events_free(d->events, d->event_count);
    tl__db_close(&d->db);
    if (rc == 0 && daemon_rc != 0)
        rc = tl__fail(TL_E_SERVER, NULL, "trunkline serve ended with exit code %d", daemon_rc);
    return rc;
}

/* Before any thread starts: all of them inherit the mask. */
static int catch_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int perform(struct demo *d)
{
    size_t repositories = 0;
    int rc = set_up(d);

    if (rc)
        return rc;
    tl__note("%zu GitHub webhook payloads at once, then a stream of them", d->event_count);
    if ((rc = publish_all(d)) || (rc = catch_up(d, "burst")) || (rc = stream(d)) ||
        (rc = catch_up(d, "catching up")) || (rc = check(d, &repositories)))
        return rc;
    print_result(d, repositories);
    if (tl__args_has(d->args, "stay"))
        stay(d);
    return 0;
}

static int run(struct tl__args *args)
{
    struct demo d = {
        .args = args,
        .ledger = {.lock = PTHREAD_MUTEX_INITIALIZER,
                   .channels = {[WEBHOOK] = {.subscription = "demo/webhook",
                                             .target = "webhook",
                                             .pattern = "github.*.*"},
                                [ISSUES] = {.subscription = "demo/open_issues",
                                            .target = "SQL function",
                                            .pattern = "github.issues.*"},
                                [COUNT] = {.subscription = "demo/count",
                                           .target = "C handler",
                                           .pattern = "github.**"}}},
        .is_live = isatty(STDOUT_FILENO) && !tl__args_has(args, "json"),
    };
    uint64_t rate = tl__args_count(args, "rate", 200);
    int rc = 0;

    if (rate < 1 || rate > 100000)
        return tl__fail(TL_E_INVALID, NULL, "--rate is a number from 1 to 100000");
    if (tl__args_count(args, "port", 0) > 65535)
        return tl__fail(TL_E_INVALID, NULL, "--port is a number up to 65535");
    if (!tl__demo_events_load(&d.events, &d.event_count))
        rc = tl__fail(TL_E_SERVER, NULL, "the built-in data set cannot be read");
    d.signal_fd = catch_signals();
    if (rc == 0)
        rc = tl__db_open_unchecked(args, &d.db);
    if (rc == 0)
        rc = perform(&d);
    rc = tear_down(&d, rc);
    if (d.signal_fd >= 0)
        close(d.signal_fd);
    return rc;
}

static const struct tl__option options[] = {
    {"stay", 0, NULL, "keep everything running afterwards, to look around"},
    {"rate", 0, "N", "events a second of the stream (200)"},
    {"for", 0, "DURATION", "how long the stream lasts (8s)"},
    {"port", 0, "N", "port of the webhook receiver on 127.0.0.1 (any free one)"},
    {NULL, 0, NULL, NULL},
};

const struct tl__command tl__cmd_demo = {
    .name = "demo",
    .summary = "show real events flow through everything, and check the result",
    .details =
        "Publishes 335 real GitHub webhook payloads at once and then as a stream, on the topic "
        "demo, with three subscriptions: a webhook, a SQL function that keeps a table of open "
        "issues, and a C handler. Prints what was delivered and how fast (from the call of "
        "publish, "
        "its commit included, to the handler), checks counts, order and the table, and exits 0 "
        "when all is right.",
    .options = options,
    .run = run,
};
