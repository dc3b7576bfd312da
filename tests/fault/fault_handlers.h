/*
 * fault_handlers.h: a worker whose handlers fail, hang, skip and die at random and which keeps a journal: a
 * line for each start and end of a handler. Its program says how often, and has the routes. For
 * fault_consumer.c and fault_deliver.c only.
 */
#ifndef FAULT_HANDLERS_H
#define FAULT_HANDLERS_H

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <trunkline/trunkline.h>
#include <unistd.h>

enum { MAX_HELD = 20, LINE = 200 };

/* How it behaves: what its program sets first. */
struct habits {
    const char *name;
    tl_verdict (*choose)(const tl_delivery *d);
    unsigned dies;      /* in one of so many handlers; 0: never */
    unsigned holds;     /* one of so many deliveries */
    const char *effect; /* SQL of a transactional handler */
    int effect_params;  /* position, key */
    unsigned most_claimed;
    uint64_t stop_timeout_us; /* 0: the default */
    int look_ms;              /* so often held deliveries have a chance */
};

static struct habits habits;
static volatile sig_atomic_t is_ending; /* no new beginning; what is held is completed at once */
static tl_client *client;
static tl_worker *worker;
static int journal;
static unsigned seed;
static tl_delivery *held[MAX_HELD];
static int held_count;

static inline unsigned below(unsigned n)
{
    return (unsigned)rand_r(&seed) % n;
}

static inline void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

/* One write of one line: whole or not at all, in the order of all processes. */
static inline void put(int fd, const char *line, int length)
{
    if (length >= LINE || write(fd, line, (size_t)length) != length)
        abort();
}

/* ------------------------------------------------------------------------------------ handlers -- */

static inline void note(char what, const tl_delivery *d, int verdict)
{
    char line[LINE];

    put(journal, line,
        snprintf(line, sizeof line, "%c %ld %s %lld %u %d\n", what, (long)getpid(),
                 tl_delivery_subscription(d), (long long)tl_event_position(tl_delivery_event(d)),
                 tl_delivery_attempt(d), verdict));
}

static inline tl_verdict ends(tl_delivery *d, tl_verdict verdict)
{
    note('E', d, verdict);
    return verdict;
}

/* As by a bug of the handler. */
static inline void may_die(void)
{
    if (habits.dies != 0 && below(habits.dies) == 0)
        _exit(9);
}

static inline tl_verdict on_event(tl_delivery *d, void *userdata)
{
    (void)userdata;
    note('S', d, -1);
    may_die();
    if (held_count < MAX_HELD && below(habits.holds) == 0) {
        held[held_count++] = d;
        return TL_PENDING;
    }
    return ends(d, habits.choose(d));
}

static inline tl_verdict on_exact(tl_delivery *d, void *userdata)
{
    const tl_event *e = tl_delivery_event(d);
    char position[24];
    const char *values[] = {position, tl_event_key(e)};
    tl_verdict verdict = habits.choose(d);

    (void)userdata;
    note('S', d, -1);
    (void)snprintf(position, sizeof position, "%lld", (long long)tl_event_position(e));
    if (tl_tx_exec(tl_delivery_tx(d), habits.effect, habits.effect_params, values, NULL) != TL_OK)
        verdict = TL_RETRY;
    may_die();
    return ends(d, verdict);
}

/* Some of what is held, in any order. */
static inline void complete_some(void)
{
    while (held_count > 0 && (is_ending || below(3) != 0)) {
        int i = (int)below((unsigned)held_count);
        tl_delivery *d = held[i];
        tl_verdict verdict = habits.choose(d);

        held[i] = held[--held_count];
        (void)ends(d, verdict);
        tl_delivery_complete(d, verdict);
    }
}

/* -------------------------------------------------------------------------------------- worker -- */

static inline void open_client(const tl_client_options *options)
{
    while (tl_client_open(getenv("TRUNKLINE_DB"), options, &client) != TL_OK && !is_ending) {
        client = tl_client_close(client);
        nap();
    }
}

/* Every handler but on_event is transactional. */
static inline void add(tl_router *r, const char *name, const char *pattern, tl_handler_fn fn,
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

/* Frees the router. */
static inline void make_worker(tl_router *r)
{
    while (!is_ending &&
           tl_worker_new(client, habits.name, r,
                         TL_WORKER_OPTIONS(.claim_batch = 1 + below(habits.most_claimed),
                                           .lease_us = 2000000, .concurrency = 1 + below(30),
                                           .poll_interval_us = 200000,
                                           .stop_timeout_us = habits.stop_timeout_us),
                         &worker) != TL_OK) {
        if (!tl_error_is_retriable(tl_client_error(client))) {
            (void)fprintf(stderr, "worker: %s\n", tl_error_message(tl_client_error(client)));
            exit(1);
        }
        nap();
    }
    tl_router_free(r);
}

/* Until it has drained; the exit code. Frees the worker, of which there may be none. */
static inline int run_worker(void)
{
    tl_status status = TL_NOTHING;

    while (worker != NULL && (status = tl_worker_process(worker)) == TL_OK) {
        struct pollfd fd = {.fd = tl_worker_fd(worker), .events = POLLIN};

        complete_some();
        (void)poll(&fd, 1, tl_worker_deadline_us(worker) == 0 ? 0 : habits.look_ms);
    }
    if (status != TL_NOTHING)
        (void)fprintf(stderr, "worker: %s\n", tl_error_message(tl_worker_error(worker)));
    tl_worker_free(worker);
    return status == TL_NOTHING ? 0 : 1;
}

#endif
