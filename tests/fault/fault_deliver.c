/*
 * fault_deliver.c: a worker whose handlers fail, hang, skip and die at random. It writes down each
 * start and each end of a handler; history.t holds that against what was promised.
 *
 *   fault_deliver SEED HISTORY wild|calm     database: TRUNKLINE_DB; SIGTERM drains; calm: all is done
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

enum { MAX_HELD = 20 };

static tl_worker *worker;
static int history;
static unsigned seed;
static bool is_wild;
static tl_delivery *held[MAX_HELD];
static int held_count;

static void on_term(int signal_number)
{
    (void)signal_number;
    tl_worker_stop(worker);
}

static unsigned below(unsigned n)
{
    return (unsigned)rand_r(&seed) % n;
}

/* One write of one line: whole or not at all, in the order of all processes. */
static void note(char what, const tl_delivery *d, int verdict)
{
    const tl_event *e = tl_delivery_event(d);
    char line[160];
    int length = snprintf(line, sizeof line, "%c %ld %s %lld %u %d\n", what, (long)getpid(),
                          tl_delivery_subscription(d), (long long)tl_event_position(e),
                          tl_delivery_attempt(d), verdict);

    if (write(history, line, (size_t)length) != length)
        abort();
}

/* Seldom a retry in hist/one: while one is due nothing is claimed ahead. */
static tl_verdict choose(const tl_delivery *d)
{
    unsigned n = below(100);

    if (!is_wild || n < 75)
        return TL_DONE;
    if (strcmp(tl_delivery_subscription(d), "hist/one") == 0)
        return n < 98 ? TL_DONE : TL_RETRY;
    return n < 94 ? TL_RETRY : n < 97 ? TL_FAIL : TL_SKIP;
}

static tl_verdict ends(tl_delivery *d, tl_verdict verdict)
{
    note('E', d, verdict);
    return verdict;
}

static tl_verdict on_event(tl_delivery *d, void *userdata)
{
    (void)userdata;
    note('S', d, -1);
    if (is_wild && below(300) == 0)
        _exit(9); /* as by a bug of the handler */
    if (held_count < MAX_HELD && below(3) == 0) {
        held[held_count++] = d;
        return TL_PENDING;
    }
    return ends(d, choose(d));
}

static tl_verdict on_exact(tl_delivery *d, void *userdata)
{
    char position[24];
    const char *values[] = {position};
    tl_verdict verdict = choose(d);

    (void)userdata;
    note('S', d, -1);
    (void)snprintf(position, sizeof position, "%lld",
                   (long long)tl_event_position(tl_delivery_event(d)));
    if (tl_tx_exec(tl_delivery_tx(d), "INSERT INTO fault_effects VALUES ($1)", 1, values, NULL) !=
        TL_OK)
        verdict = TL_RETRY;
    if (is_wild && below(300) == 0)
        _exit(9);
    return ends(d, verdict);
}

static void add(tl_router *r, const char *name, const char *pattern, tl_handler_fn fn,
                tl_subscribe_options options)
{
    options.size = sizeof options;
    options.start = TL_START_BEGINNING;
    options.retry_delay_us = 5000;
    options.retry_cap_us = 50000;
    if (tl_router_on(r, pattern, fn, NULL,
                     TL_ROUTE_OPTIONS(.name = name, .transactional = fn == on_exact,
                                      .subscribe = options)) != TL_OK)
        exit(1);
}

static tl_router *routes(void)
{
    tl_router *r = NULL;

    if (tl_router_new(NULL, &r) != TL_OK)
        exit(1);
    add(r, "key", "**", on_event,
        (tl_subscribe_options){.ordering = TL_ORDERING_KEY, .slots = 4, .max_attempts = 4});
    add(r, "one", "**", on_event,
        (tl_subscribe_options){.ordering = TL_ORDERING_KEY, .max_attempts = 4});
    add(r, "total", "**", on_event,
        (tl_subscribe_options){.ordering = TL_ORDERING_TOTAL, .max_attempts = 3});
    add(r, "none", "**", on_event,
        (tl_subscribe_options){.ordering = TL_ORDERING_NONE, .max_attempts = 3});
    add(r, "exact", "**", on_exact,
        (tl_subscribe_options){.ordering = TL_ORDERING_KEY, .max_attempts = 4});
    add(r, "picky", "hist.some", on_event,
        (tl_subscribe_options){.tenant_id = "a", .filter = "{\"x\": 1}", .max_attempts = 5});
    return r;
}

static void make_worker(tl_client **ret_c)
{
    tl_router *r = routes();

    while (tl_client_open(getenv("TRUNKLINE_DB"), NULL, ret_c) != TL_OK) {
        *ret_c = tl_client_close(*ret_c);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    while (
        tl_worker_new(*ret_c, "hist", r,
                      TL_WORKER_OPTIONS(.claim_batch = 1 + below(30), .lease_us = 2000000,
                                        .concurrency = 1 + below(30), .poll_interval_us = 200000),
                      &worker) != TL_OK) {
        if (!tl_error_is_retriable(tl_client_error(*ret_c))) {
            (void)fprintf(stderr, "worker: %s\n", tl_error_message(tl_client_error(*ret_c)));
            exit(1);
        }
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    tl_router_free(r);
}

/* Some of what is held, in any order. */
static void complete_some(void)
{
    while (held_count > 0 && below(3) != 0) {
        int i = (int)below((unsigned)held_count);
        tl_delivery *d = held[i];
        tl_verdict verdict = choose(d);

        held[i] = held[--held_count];
        (void)ends(d, verdict);
        tl_delivery_complete(d, verdict);
    }
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_term};
    tl_client *c = NULL;
    tl_status status;

    if (argc != 4)
        return 2;
    seed = (unsigned)strtoul(argv[1], NULL, 10);
    history = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    is_wild = strcmp(argv[3], "wild") == 0;
    make_worker(&c);
    sigaction(SIGTERM, &action, NULL);
    while ((status = tl_worker_process(worker)) == TL_OK) {
        struct pollfd fd = {.fd = tl_worker_fd(worker), .events = POLLIN};

        complete_some();
        (void)poll(&fd, 1, tl_worker_deadline_us(worker) == 0 ? 0 : 2);
    }
    if (status != TL_NOTHING) {
        (void)fprintf(stderr, "worker: %s\n", tl_error_message(tl_worker_error(worker)));
        return 1;
    }
    tl_worker_free(worker);
    tl_client_close(c);
    return 0;
}
