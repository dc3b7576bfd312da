/*
 * fault_worker.c: a worker with three handlers that is killed again and again. It writes down what it
 * was given; fault.t holds that against the log.
 *
 *   fault_worker DELIVERIES     database: TRUNKLINE_DB; SIGTERM drains
 */
#include <fcntl.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <trunkline/trunkline.h>
#include <unistd.h>

static tl_worker *worker;
static int deliveries;

static void on_term(int signal_number)
{
    (void)signal_number;
    tl_worker_stop(worker);
}

/* One write of one line: whole or not at all, in the order of the handlers of all processes. */
static void note(const char *handler, tl_delivery *d)
{
    const tl_event *e = tl_delivery_event(d);
    char line[128];
    int length = snprintf(line, sizeof line, "%s %lld %s\n", handler,
                          (long long)tl_event_position(e), tl_event_key(e));

    if (write(deliveries, line, (size_t)length) != length)
        abort();
}

static tl_verdict on_plain(tl_delivery *d, void *userdata)
{
    (void)userdata;
    note("plain", d);
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL); /* work, so that kills fall into it */
    return TL_DONE;
}

/* Fails now and then at the first attempt. */
static tl_verdict on_flaky(tl_delivery *d, void *userdata)
{
    (void)userdata;
    if (tl_delivery_attempt(d) == 1 && tl_event_position(tl_delivery_event(d)) % 11 == 0) {
        tl_delivery_set_error(d, "not today");
        return TL_RETRY;
    }
    note("flaky", d);
    return TL_DONE;
}

static tl_verdict on_exact(tl_delivery *d, void *userdata)
{
    const tl_event *e = tl_delivery_event(d);
    char position[24];
    const char *values[] = {position, tl_event_key(e)};

    (void)userdata;
    (void)snprintf(position, sizeof position, "%lld", (long long)tl_event_position(e));
    if (tl_tx_exec(tl_delivery_tx(d),
                   "INSERT INTO fault_effects (handler, at, key) VALUES ('exact', $1, $2)", 2,
                   values, NULL) != TL_OK)
        return TL_RETRY;
    return TL_DONE;
}

int main(int argc, char **argv)
{
    static const tl_subscribe_options from_start = {.size = sizeof from_start,
                                                    .start = TL_START_BEGINNING,
                                                    .max_attempts = 100}; /* it is killed often */
    static const tl_subscribe_options unordered = {.size = sizeof unordered,
                                                   .start = TL_START_BEGINNING,
                                                   .ordering = TL_ORDERING_NONE,
                                                   .max_attempts = 1000,
                                                   .retry_delay_us = 10000};
    struct sigaction action = {.sa_handler = on_term};
    tl_router *router = NULL;
    tl_client *c = NULL;

    if (argc != 2)
        return 2;
    deliveries = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0666);
    while (tl_client_open(getenv("TRUNKLINE_DB"), NULL, &c) != TL_OK) {
        c = tl_client_close(c);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    if (tl_router_new("fault", &router) != TL_OK ||
        tl_router_on(router, "**", on_plain, NULL,
                     TL_ROUTE_OPTIONS(.name = "plain", .subscribe = from_start)) != TL_OK ||
        tl_router_on(router, "**", on_flaky, NULL,
                     TL_ROUTE_OPTIONS(.name = "flaky", .subscribe = unordered)) != TL_OK ||
        tl_router_on(router, "**", on_exact, NULL,
                     TL_ROUTE_OPTIONS(.name = "exact", .transactional = true,
                                      .subscribe = from_start)) != TL_OK)
        return 1;
    while (tl_worker_new(
               c, "fault", router,
               TL_WORKER_OPTIONS(.claim_batch = 20, .lease_us = 700000, .poll_interval_us = 200000),
               &worker) != TL_OK) {
        if (!tl_error_is_retriable(tl_client_error(c))) {
            (void)fprintf(stderr, "worker: %s\n", tl_error_message(tl_client_error(c)));
            return 1;
        }
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    sigaction(SIGTERM, &action, NULL);
    if (tl_worker_run(worker) != TL_OK) {
        (void)fprintf(stderr, "worker: %s\n", tl_error_message(tl_worker_error(worker)));
        return 1;
    }
    tl_worker_free(worker);
    tl_router_free(router);
    tl_client_close(c);
    return 0;
}
