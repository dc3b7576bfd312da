/*
 * worker.c: the public face of a worker: made from a router, driven by tl_worker_run or by a
 * caller's loop, stopped and drained. Everything happens in the thread that calls process.
 */
#include "worker.h"

#include "clock.h"
#include "router.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DEFAULT_CONCURRENCY 5
#define MAX_CONCURRENCY 1000
#define FIRST_CLAIM_BATCH 100
#define DEFAULT_CLAIM_BATCH 4000
#define DEFAULT_LEASE_US 30000000
#define MIN_LEASE_US 1000
#define MAX_LEASE_US 86400000000
#define DEFAULT_POLL_INTERVAL_US 1000000
#define DEFAULT_STOP_TIMEOUT_US 30000000

/* -------------------------------------------------------------------------- routes -- */

static tl_status add_entry(struct tl_worker *w, const char *module,
                           const struct tl__router_entry *e)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf name = TL_BUF_INIT;
    struct tl__route *r;
    tl_status status;

    tl__buf_addf(&name, "%s/%s", module, e->name);
    if (name.is_failed)
        return tl__error_nomem(&w->client->error);
    status = tl_subscribe(w->client, name.data, e->pattern, &e->subscribe);
    if (status == TL_OK)
        status = tl__route_add(w, name.data, &r);
    if (status != TL_OK)
        return status;
    r->fn = e->fn;
    r->userdata = e->userdata;
    r->is_transactional = e->is_transactional;
    return TL_OK;
}

tl_status tl_worker_handle(tl_worker *w, const char *subscription, tl_handler_fn fn, void *userdata,
                           const tl_handle_options *from)
{
    tl_handle_options opts;
    struct tl__route *r;
    tl_status status = tl__options_load(&w->error, "tl_worker_handle", &opts, sizeof opts, from);

    if (status != TL_OK)
        return status;
    if (subscription == NULL || fn == NULL || opts.concurrency > MAX_CONCURRENCY)
        return tl__error_set(&w->error, TL_E_INVALID, NULL,
                             "no subscription, no handler, or concurrency above %d",
                             MAX_CONCURRENCY);
    if (w->is_draining || w->is_done)
        return tl__error_set(&w->error, TL_E_CLOSED, NULL, "worker is stopping");
    r = tl__route_find(w, subscription);
    /* What is in flight belongs to the transaction, or not, that it began in. */
    if (r != NULL && r->is_transactional != opts.transactional && r->leases != NULL) {
        r->is_forgotten = true;
        r = NULL;
    }
    if (r == NULL) {
        status = tl__route_add(w, subscription, &r);
        if (status != TL_OK) {
            w->error = w->client->error;
            return status;
        }
    }
    r->fn = fn;
    r->userdata = userdata;
    r->is_transactional = opts.transactional;
    r->concurrency = opts.concurrency;
    return TL_OK;
}

tl_status tl_worker_forget(tl_worker *w, const char *subscription)
{
    struct tl__route *r = subscription != NULL ? tl__route_find(w, subscription) : NULL;

    if (r == NULL)
        return tl__error_set(&w->error, TL_E_NOTFOUND, NULL, "subscription is not served");
    r->is_forgotten = true;
    return TL_OK;
}

/* --------------------------------------------------------------------------- making -- */

static tl_status load_options(struct tl_worker *w, const tl_worker_options *from,
                              tl_worker_options *opts)
{
    struct tl_error *e = &w->client->error;
    tl_status status = tl__options_load(e, "tl_worker_new", opts, sizeof *opts, from);

    if (status != TL_OK)
        return status;
    w->concurrency = opts->concurrency != 0 ? opts->concurrency : DEFAULT_CONCURRENCY;
    w->claim_batch = opts->claim_batch != 0 ? opts->claim_batch : DEFAULT_CLAIM_BATCH;
    w->lease_us = opts->lease_us != 0 ? opts->lease_us : DEFAULT_LEASE_US;
    w->stop_timeout_us =
        opts->stop_timeout_us != 0 ? opts->stop_timeout_us : DEFAULT_STOP_TIMEOUT_US;
    if (opts->poll_interval_us == 0)
        opts->poll_interval_us = DEFAULT_POLL_INTERVAL_US;
    if (w->concurrency > MAX_CONCURRENCY)
        return tl__error_set(e, TL_E_INVALID, NULL, "concurrency is not 1 to %d", MAX_CONCURRENCY);
    if (w->claim_batch > TL_MAX_CLAIM)
        return tl__error_set(e, TL_E_INVALID, NULL, "claim_batch is not 1 to %d", TL_MAX_CLAIM);
    w->first_batch = w->claim_batch < FIRST_CLAIM_BATCH ? w->claim_batch : FIRST_CLAIM_BATCH;
    w->batch = w->first_batch;
    if (w->lease_us < MIN_LEASE_US || w->lease_us > MAX_LEASE_US)
        return tl__error_set(e, TL_E_INVALID, NULL, "lease is not 1 ms to 1 day");
    return TL_OK;
}

static tl_status make(struct tl_worker *w, const char *module, const tl_router *router,
                      const tl_worker_options *from)
{
    tl_worker_options opts;
    tl_status status = load_options(w, from, &opts);
    char host[64] = "";

    if (status != TL_OK)
        return status;
    if (router != NULL && router->entries != NULL && (module == NULL || module[0] == '\0'))
        return tl__error_set(&w->client->error, TL_E_INVALID, NULL, "module has no name");
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->wake_fd < 0)
        return tl__error_set(&w->client->error, TL_E_NOMEM, NULL, "no file descriptor is free");
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(w->owner, sizeof w->owner, "%s %s:%ld", module != NULL ? module : "worker", host,
                   (long)getpid());
    if (tl__worker_statements_init(w) != TL_OK)
        return tl__error_nomem(&w->client->error);
    status = tl__bell_new(&w->client->settings, &tl__worker_bell_owner, w, opts.poll_interval_us,
                          !opts.no_listen, w->wake_fd, &w->error, &w->bell);
    if (status != TL_OK) {
        w->client->error = w->error;
        return status;
    }
    for (const struct tl__router_entry *e = router != NULL ? router->entries : NULL;
         e != NULL && status == TL_OK; e = e->next)
        status = add_entry(w, module, e);
    return status;
}

tl_status tl_worker_new(tl_client *c, const char *module, const tl_router *router,
                        const tl_worker_options *opts, tl_worker **ret)
{
    tl_worker *w = calloc(1, sizeof *w);
    tl_status status;

    if (w == NULL)
        return tl__error_nomem(&c->error);
    w->client = c;
    w->wake_fd = -1;
    w->hold_until_us = UINT64_MAX;
    tl__error_clear(&w->error);
    tl__tx_init(&w->tx, c);
    status = make(w, module, router, opts);
    if (status != TL_OK) {
        tl_worker_free(w);
        return status;
    }
    *ret = w;
    return TL_OK;
}

tl_worker *tl_worker_free(tl_worker *w)
{
    if (w == NULL)
        return NULL;
    while (w->routes != NULL) {
        struct tl__route *next = w->routes->next;

        tl__route_free(w->routes);
        w->routes = next;
    }
    while (w->made != NULL) {
        struct tl_delivery *d = w->made;

        w->made = d->next_made;
        free(d->error);
        free(d);
    }
    tl__bell_free(w->bell);
    tl__tx_done(&w->tx);
    tl__statement_done(&w->ack);
    tl__statement_done(&w->release);
    tl__statement_done(&w->extend);
    tl__statement_done(&w->ahead);
    tl__statement_done(&w->settings);
    tl__statement_done(&w->prepare_next);
    tl__buf_done(&w->ids);
    tl__buf_done(&w->capacities);
    tl__buf_done(&w->due_ids);
    tl__buf_done(&w->known);
    if (w->wake_fd >= 0)
        close(w->wake_fd);
    free(w);
    return NULL;
}

/* -------------------------------------------------------------------------- running -- */

void tl_worker_stop(tl_worker *w)
{
    uint64_t one = 1;

    __atomic_store_n(&w->stop_flag, 1, __ATOMIC_RELEASE);
    if (write(w->wake_fd, &one, sizeof one) < 0) {
        /* full: it is readable already */
    }
}

static void end(struct tl_worker *w, tl_status status)
{
    w->is_done = true;
    w->end_status = status;
}

/* Drained: hand the sentinel's duty on and say that released events can be had. */
static void leave(struct tl_worker *w, uint64_t now_us)
{
    struct tl__waiter_policy *p = tl__bell_policy(w->bell);

    if (!tl__bell_is_ready(w->bell)) {
        end(w, TL_NOTHING);
        return;
    }
    if (!w->is_leaving) {
        w->is_leaving = true;
        tl__waiter_policy_leave(p);
        /* to what waited for our leases, or for a time that we knew */
        tl__bell_wake_others(w->bell);
        tl__bell_write(w->bell, now_us);
    }
    if (tl__bell_is_idle(w->bell) && !p->is_release_wanted && !p->is_wake_wanted)
        end(w, TL_NOTHING);
}

static void drain(struct tl_worker *w, uint64_t now_us)
{
    if (!w->is_draining && __atomic_load_n(&w->stop_flag, __ATOMIC_ACQUIRE)) {
        w->is_draining = true;
        w->drain_until_us = tl__deadline_us(now_us, w->stop_timeout_us);
        tl__bell_write(w->bell, now_us);
    }
    if (!w->is_draining)
        return;
    if (!tl__worker_has_leases(w)) {
        leave(w, now_us);
    } else if (now_us >= w->drain_until_us) {
        tl__error_set(&w->error, TL_E_TIMEOUT, NULL,
                      "worker stopped with deliveries unfinished: their leases are left to expire");
        end(w, TL_E_TIMEOUT);
    }
}

static tl_status process(struct tl_worker *w)
{
    uint64_t now_us = tl__clock_us();
    bool is_woken;
    tl_status status = tl__bell_process(w->bell, now_us, &is_woken);

    if (status != TL_OK)
        return status;
    tl__worker_finish_completed(w);
    drain(w, now_us);
    if (w->is_done)
        return w->end_status;
    if (!w->has_next)
        tl__bell_write(w->bell, now_us); /* claim on while handlers run, where order allows it */
    w->has_next = false;
    tl__worker_dispatch(w, now_us);
    now_us = tl__clock_us();
    tl__bell_write(w->bell, now_us);
    tl__routes_free_forgotten(w);
    drain(w, now_us);
    return w->is_done ? w->end_status : TL_OK;
}

tl_status tl_worker_process(tl_worker *w)
{
    tl_status status;

    if (w->is_done)
        return w->end_status;
    if (w->is_inside)
        return tl__error_set(&w->error, TL_E_INVALID, NULL, "worker is run by one of its handlers");
    w->is_inside = true;
    status = process(w);
    w->is_inside = false;
    return status;
}

int tl_worker_fd(const tl_worker *w)
{
    return tl__bell_fd(w->bell);
}

int tl_worker_events(const tl_worker *w)
{
    (void)w;
    return POLLIN;
}

uint64_t tl_worker_deadline_us(const tl_worker *w)
{
    uint64_t at = tl__bell_deadline_us(w->bell);
    uint64_t leases_at = tl__worker_leases_deadline_us(w);

    if (w->is_done || w->has_work || w->completed != NULL)
        return 0;
    if (w->tx.retry_at_us != 0 && w->tx.retry_at_us < at)
        at = w->tx.retry_at_us;
    if (w->is_draining && w->drain_until_us < at)
        at = w->drain_until_us;
    for (const struct tl__route *r = w->routes; r != NULL; r = r->next) {
        if (tl__route_can_be_freed(r))
            return 0;
    }
    return leases_at < at ? leases_at : at;
}

tl_status tl_worker_run(tl_worker *w)
{
    tl_status status;

    if (w->is_done)
        return tl__error_set(&w->error, TL_E_INVALID, NULL, "worker has run and ended");
    while ((status = tl_worker_process(w)) == TL_OK)
        tl__bell_sleep(w->bell, tl_worker_deadline_us(w));
    return status == TL_NOTHING ? TL_OK : status;
}

const tl_error *tl_worker_error(const tl_worker *w)
{
    return &w->error;
}

void tl_worker_get_stats(const tl_worker *w, tl_worker_stats *ret)
{
    const struct tl__bell_counts *counts = tl__bell_get_counts(w->bell);
    const struct tl__waiter_policy *p = tl__bell_policy(w->bell);

    *ret = w->stats;
    ret->in_flight = w->in_flight;
    ret->wakes = counts->wakes;
    ret->reconnects = counts->reconnects;
    ret->is_sentinel = p->is_sentinel;
    ret->is_listening = p->is_listening;
}
