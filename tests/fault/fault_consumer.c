/*
 * fault_consumer.c: consumers that are killed, stopped and cut off while they work, and keep a journal.
 *
 *   fault_consumer worker SEED JOURNAL   a worker with handlers that fail, hang, skip and die at random; a
 *                                        line for each start and end of a handler
 *   fault_consumer live DIRECTORY        live subscriptions; each appends what it gets to a file of its own
 *                                        and goes on after the last line of it
 *
 * Database: TRUNKLINE_DB. SIGTERM: a clean end.
 */
#include <fcntl.h>
#include <libpq-fe.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <trunkline/trunkline.h>
#include <unistd.h>

enum { MAX_HELD = 20, LINE = 200 };

static volatile sig_atomic_t is_ending;
static tl_client *client;
static tl_worker *worker;
static int journal;
static unsigned seed;
static tl_delivery *held[MAX_HELD];
static int held_count;

static unsigned below(unsigned n)
{
    return (unsigned)rand_r(&seed) % n;
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

/* One write of one line: whole or not at all, in the order of all processes. */
static void put(int fd, const char *line, int length)
{
    if (length >= LINE || write(fd, line, (size_t)length) != length)
        abort();
}

static void open_client(void)
{
    static const tl_client_options options = {.size = sizeof options,
                                              .timeout_us = 10000000,
                                              .reconnect_cap_us = 500000,
                                              .poll_interval_us = 500000};

    while (tl_client_open(getenv("TRUNKLINE_DB"), &options, &client) != TL_OK && !is_ending) {
        client = tl_client_close(client);
        nap();
    }
}

/* ------------------------------------------------------------------------------------- worker -- */

static void stop_worker(int signal_number)
{
    (void)signal_number;
    is_ending = 1;
    if (worker != NULL)
        tl_worker_stop(worker);
}

static void note(char what, const tl_delivery *d, int verdict)
{
    char line[LINE];

    put(journal, line,
        snprintf(line, sizeof line, "%c %ld %s %lld %u %d\n", what, (long)getpid(),
                 tl_delivery_subscription(d), (long long)tl_event_position(tl_delivery_event(d)),
                 tl_delivery_attempt(d), verdict));
}

static tl_verdict ends(tl_delivery *d, tl_verdict verdict)
{
    note('E', d, verdict);
    return verdict;
}

static tl_verdict choose(void)
{
    unsigned n = below(100);

    return n < 90 ? TL_DONE : n < 97 ? TL_RETRY : n < 98 ? TL_FAIL : TL_SKIP;
}

static tl_verdict on_event(tl_delivery *d, void *userdata)
{
    (void)userdata;
    note('S', d, -1);
    if (below(2000) == 0)
        _exit(9); /* as by a bug of the handler */
    if (held_count < MAX_HELD && below(4) == 0) {
        held[held_count++] = d;
        return TL_PENDING;
    }
    return ends(d, choose());
}

static tl_verdict on_exact(tl_delivery *d, void *userdata)
{
    const tl_event *e = tl_delivery_event(d);
    char position[24];
    const char *values[] = {position, tl_event_key(e)};
    tl_verdict verdict = choose();

    (void)userdata;
    note('S', d, -1);
    (void)snprintf(position, sizeof position, "%lld", (long long)tl_event_position(e));
    if (tl_tx_exec(tl_delivery_tx(d),
                   "INSERT INTO fault_effects (handler, at, key) VALUES ('fault/exact', $1, $2)", 2,
                   values, NULL) != TL_OK)
        verdict = TL_RETRY;
    if (below(2000) == 0)
        _exit(9);
    return ends(d, verdict);
}

/* A projection: each stream and its version. A row that does not fit the event is marked. */
static tl_verdict on_order(tl_delivery *d, void *userdata)
{
    const tl_event *e = tl_delivery_event(d);
    char version[24];
    const char *values[] = {tl_event_stream(e), version};

    (void)userdata;
    note('S', d, -1);
    (void)snprintf(version, sizeof version, "%lld", (long long)tl_event_version(e));
    if (tl_tx_exec(tl_delivery_tx(d),
                   "INSERT INTO fault_projection AS p (stream, version, wrong)"
                   " VALUES ($1, $2::bigint, ($2::bigint <> 1)::integer)"
                   " ON CONFLICT (stream) DO UPDATE SET version = excluded.version,"
                   " wrong = p.wrong + (p.version + 1 <> excluded.version)::integer",
                   2, values, NULL) != TL_OK)
        return ends(d, TL_RETRY);
    return ends(d, TL_DONE);
}

static void add(tl_router *r, const char *name, const char *pattern, tl_handler_fn fn,
                tl_subscribe_options options)
{
    options.size = sizeof options;
    options.start = TL_START_BEGINNING;
    options.retry_delay_us = 5000;
    options.retry_cap_us = 50000;
    if (tl_router_on(r, pattern, fn, NULL,
                     TL_ROUTE_OPTIONS(.name = name, .transactional = fn != on_event,
                                      .subscribe = options)) != TL_OK)
        exit(1);
}

static tl_router *routes(void)
{
    tl_router *r = NULL;

    if (tl_router_new(NULL, &r) != TL_OK)
        exit(1);
    add(r, "key", "fault.**", on_event,
        (tl_subscribe_options){.ordering = TL_ORDERING_KEY, .slots = 4, .max_attempts = 4});
    add(r, "total", "**", on_event,
        (tl_subscribe_options){.ordering = TL_ORDERING_TOTAL, .max_attempts = 3});
    add(r, "none", "**", on_event,
        (tl_subscribe_options){.ordering = TL_ORDERING_NONE, .max_attempts = 3});
    add(r, "exact", "fault.*", on_exact,
        (tl_subscribe_options){.ordering = TL_ORDERING_KEY, .slots = 2, .max_attempts = 4});
    add(r, "picky", "fault.some", on_event,
        (tl_subscribe_options){.tenant_id = "a", .filter = "{\"x\": 1}", .max_attempts = 5});
    add(r, "orders", "order.*", on_order,
        (tl_subscribe_options){
            .topic = "store", .ordering = TL_ORDERING_KEY, .max_attempts = 1000});
    return r;
}

static void make_worker(void)
{
    tl_router *r = routes();

    while (!is_ending &&
           tl_worker_new(client, "fault", r,
                         TL_WORKER_OPTIONS(.claim_batch = 1 + below(40), .lease_us = 2000000,
                                           .concurrency = 1 + below(30), .poll_interval_us = 200000,
                                           .stop_timeout_us = 60000000),
                         &worker) != TL_OK) {
        if (!tl_error_is_retriable(tl_client_error(client))) {
            (void)fprintf(stderr, "worker: %s\n", tl_error_message(tl_client_error(client)));
            exit(1);
        }
        nap();
    }
    tl_router_free(r);
}

/* Some of what is held, in any order. */
static void complete_some(void)
{
    while (held_count > 0 && (is_ending || below(3) != 0)) {
        int i = (int)below((unsigned)held_count);
        tl_delivery *d = held[i];
        tl_verdict verdict = choose();

        held[i] = held[--held_count];
        (void)ends(d, verdict);
        tl_delivery_complete(d, verdict);
    }
}

static int work(const char *seed_text, const char *path)
{
    tl_status status = TL_NOTHING;

    seed = (unsigned)strtoul(seed_text, NULL, 10);
    journal = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    open_client();
    if (client != NULL)
        make_worker();
    if (is_ending && worker != NULL)
        tl_worker_stop(worker);
    while (worker != NULL && (status = tl_worker_process(worker)) == TL_OK) {
        struct pollfd fd = {.fd = tl_worker_fd(worker), .events = POLLIN};

        complete_some();
        (void)poll(&fd, 1, tl_worker_deadline_us(worker) == 0 ? 0 : 5);
    }
    if (status != TL_NOTHING)
        (void)fprintf(stderr, "worker: %s\n", tl_error_message(tl_worker_error(worker)));
    tl_worker_free(worker);
    return status == TL_NOTHING ? 0 : 1;
}

/* --------------------------------------------------------------------------------------- live -- */

enum kind { BUS, STORE, TYPE, CATEGORY, STREAM, KINDS };

struct subscriber {
    int file;
    bool by_version;
};

static void stop_live(int signal_number)
{
    (void)signal_number;
    is_ending = 1;
    if (client != NULL)
        tl_client_wake(client);
}

static int on_live(tl_live *live, const tl_event *e, void *userdata)
{
    struct subscriber *s = userdata;
    char line[LINE];

    (void)live;
    put(s->file, line,
        snprintf(line, sizeof line, "%lld\n",
                 (long long)(s->by_version ? tl_event_version(e) : tl_event_position(e))));
    return 0;
}

static void on_end(tl_live *live, int status, void *userdata)
{
    struct subscriber *s = userdata;
    char line[LINE];

    put(s->file, line,
        snprintf(line, sizeof line, "ended %d %.100s\n", status,
                 tl_error_message(tl_live_error(live))));
}

/* Where it stood: its last line. */
static int64_t last_place(int file)
{
    char tail[LINE] = "";
    off_t size = lseek(file, 0, SEEK_END), from = size < LINE - 1 ? 0 : size - (LINE - 1);
    ssize_t length = pread(file, tail, sizeof tail - 1, from);

    if (length <= 1)
        return 0;
    tail[length - 1] = '\0';
    return strtoll(strrchr(tail, '\n') != NULL ? strrchr(tail, '\n') + 1 : tail, NULL, 10);
}

static tl_status subscribe_one(enum kind kind, struct subscriber *s, int64_t after)
{
    tl_live_options o = {.size = sizeof o, .after = after, .ended = on_end};
    tl_live *live;

    switch (kind) {
    case BUS:
        o.topic = "bus";
        return tl_subscribe_all(client, &o, on_live, s, &live);
    case TYPE:
        o.topic = "bus";
        o.tenant_id = "a";
        return tl_subscribe_type(client, "fault.some", &o, on_live, s, &live);
    case CATEGORY:
        return tl_subscribe_category(client, "order", &o, on_live, s, &live);
    case STREAM:
        return tl_subscribe_stream(client, "order-1", &o, on_live, s, &live);
    default:
        return tl_subscribe_all(client, &o, on_live, s, &live);
    }
}

static int live(const char *directory)
{
    static const char *const names[KINDS] = {"bus", "store", "type", "category", "stream"};
    struct subscriber subscribers[KINDS];
    tl_status status = TL_OK;

    open_client();
    for (int i = 0; i < KINDS && client != NULL && !is_ending; i++) {
        char path[LINE];

        (void)snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        subscribers[i] = (struct subscriber){.by_version = i == STREAM};
        subscribers[i].file = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        while ((status = subscribe_one((enum kind)i, &subscribers[i],
                                       last_place(subscribers[i].file))) != TL_OK &&
               !is_ending) {
            const tl_error *e = tl_client_error(client);

            if (status != TL_E_CONNECTION && !tl_error_is_retriable(e)) {
                (void)fprintf(stderr, "%s: %s\n", names[i], tl_error_message(e));
                return 1;
            }
            nap();
        }
    }
    while (client != NULL && !is_ending) {
        status = tl_client_run(client, UINT64_MAX);
        if (status != TL_E_CANCELLED && !is_ending) {
            (void)fprintf(stderr, "live: %s\n", tl_error_message(tl_client_error(client)));
            return 1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    bool is_worker = argc == 4 && strcmp(argv[1], "worker") == 0;
    struct sigaction term = {.sa_handler = is_worker ? stop_worker : stop_live};
    int status;

    if (!is_worker && (argc != 3 || strcmp(argv[1], "live") != 0))
        return 2;
    sigaction(SIGTERM, &term, NULL);
    status = is_worker ? work(argv[2], argv[3]) : live(argv[2]);
    tl_client_close(client);
    return status;
}
