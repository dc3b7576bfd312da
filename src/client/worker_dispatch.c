/*
 * worker_dispatch.c: which delivery starts next, and what becomes of it.
 *
 * Fairness: routes take turns, higher priority first; in a round each may start TURN_PER_PRIORITY
 * handlers for each point of its priority. So between two turns of a subscription that has work at
 * most TURN_PER_PRIORITY times the sum of the other priorities handlers start: high priorities get
 * more, none starves.
 */
#include "worker.h"

#include "clock.h"

#define TURN_PER_PRIORITY 8
#define SLICE_US 5000 /* then look at the connection again */

#define COL_ATTEMPT 2
#define COL_EVENT 3

static const char *key_of(const void *context, uint32_t index)
{
    const struct tl__lease *l = context;
    enum { COL_KEY = COL_EVENT + 6 };

    return tl__cell_text(l->claimed->res, l->first_row + (int)index, COL_KEY);
}

/* ------------------------------------------------------------------------ finishing -- */

static void count(struct tl_worker *w, tl_verdict verdict)
{
    w->stats.delivered++;
    switch (verdict) {
    case TL_DONE:
        w->stats.done++;
        break;
    case TL_SKIP:
        w->stats.skipped++;
        break;
    case TL_FAIL:
        w->stats.failed++;
        break;
    default:
        w->stats.retried++;
        break;
    }
}

static void finish(struct tl_worker *w, struct tl_delivery *d, tl_verdict verdict)
{
    d->verdict = verdict;
    if (verdict != TL_DONE)
        d->lease->failures++;
    tl__schedule_finish(&d->lease->schedule, d->index);
    count(w, verdict);
}

/* It did not happen: the event is claimed again, here or elsewhere. */
static void give_back(struct tl_delivery *d)
{
    tl__schedule_undo(&d->lease->schedule, d->index);
    d->lease->route->unstarted++;
    d->lease->is_broken = d->lease->is_repeat = true;
}

static void end(struct tl_worker *w, struct tl_delivery *d, tl_verdict verdict)
{
    struct tl__lease *l = d->lease;
    tl_status status;

    if (verdict > TL_FAIL) {
        verdict = TL_RETRY;
        tl_delivery_set_error(d, "handler returned no verdict");
    }
    if (!l->route->is_transactional) {
        finish(w, d, verdict);
        return;
    }
    status = tl__tx_end(&w->tx, d, &verdict);
    if (status == TL_E_CONNECTION) {
        tl__log(&w->client->settings, TL_LOG_WARN, "%s: connection lost in a transactional handler",
                l->route->name);
        give_back(d);
        return;
    }
    if (status == TL_E_FENCED) {
        tl__log(&w->client->settings, TL_LOG_WARN,
                "%s: lease was lost before the handler's commit: rolled back", l->route->name);
        l->is_lost = true;
        verdict = TL_RETRY;
    }
    finish(w, d, verdict);
    if (status == TL_OK && verdict == TL_DONE)
        l->acked = d->index + 1;
}

void tl__worker_finish_completed(struct tl_worker *w)
{
    struct tl_delivery *list = w->completed;
    struct tl_delivery *in_order = NULL;

    w->completed = NULL;
    while (list != NULL) { /* it is a stack */
        struct tl_delivery *d = list;

        list = d->next_complete;
        d->next_complete = in_order;
        in_order = d;
    }
    while (in_order != NULL) {
        struct tl_delivery *d = in_order;

        in_order = d->next_complete;
        w->in_flight--;
        d->lease->route->running--;
        end(w, d, d->verdict);
    }
}

/* ------------------------------------------------------------------------- starting -- */

static void start(struct tl_worker *w, struct tl__lease *l, uint32_t i)
{
    struct tl__route *r = l->route;
    struct tl_delivery *d = &l->deliveries[i];
    int row = l->first_row + (int)i;
    tl_verdict verdict;

    d->lease = l;
    d->index = i;
    d->attempt = (uint32_t)tl__cell_i64(l->claimed->res, row, COL_ATTEMPT);
    d->is_pending = d->is_complete = false;
    d->verdict = TL_PENDING;
    d->retry_after_us = d->retry_wish_us = d->retry_floor_us = 0;
    d->id[0] = '\0';
    tl__event_from_row(l->claimed->res, row, COL_EVENT, &d->event);
    r->unstarted--;
    tl__schedule_start(&l->schedule, i);
    if (r->is_transactional && tl__tx_begin(&w->tx) != TL_OK) {
        tl__log(&w->client->settings, TL_LOG_WARN, "%s: no transaction for the handler: %s",
                r->name, tl_error_message(&w->tx.client.error));
        give_back(d);
        return;
    }
    verdict = r->fn(d, r->userdata);
    if (verdict == TL_PENDING && d->is_complete)
        verdict = d->verdict;
    if (verdict != TL_PENDING) {
        d->is_complete = true;
        end(w, d, verdict);
        return;
    }
    d->is_pending = true;
    w->in_flight++;
    r->running++;
    (void)tl__schedule_defer(&l->schedule, key_of, l);
}

/* The next delivery of a route that may start now. */
static struct tl__lease *find_startable(struct tl_worker *w, struct tl__route *r, uint32_t *ret_i)
{
    if ((r->concurrency > 0 && r->running >= r->concurrency) ||
        (r->is_transactional && (w->tx.is_busy || w->tx.retry_at_us != 0)))
        return NULL;
    for (struct tl__lease *l = r->leases; l != NULL; l = l->next) {
        uint32_t limit = tl__lease_is_draining(l) ? l->schedule.started : l->schedule.count;

        /* a transactional handler settles its event itself: never beside another ack */
        if (!l->is_lost && !l->is_broken && !(r->is_transactional && l->op != TL__LEASE_IDLE)) {
            *ret_i = tl__schedule_peek(&l->schedule, limit);
            if (*ret_i != TL__SCHEDULE_NONE)
                return l;
        }
        /* with an order, what comes later in the log waits for the lease before it */
        if (r->ordering != TL_ORDERING_NONE && l->schedule.finished < l->schedule.count)
            return NULL;
    }
    return NULL;
}

/* Uses up the route's turn, or what is left of it. True: time is up. */
static bool run_turn(struct tl_worker *w, struct tl__route *r, uint64_t until_us, bool *ret_started)
{
    while (r->turn > 0 && w->in_flight < w->concurrency) {
        uint32_t i;
        struct tl__lease *l = find_startable(w, r, &i);

        if (l == NULL)
            break;
        r->turn--;
        *ret_started = true;
        start(w, l, i);
        if (tl__clock_us() >= until_us)
            return true;
    }
    return false;
}

void tl__worker_dispatch(struct tl_worker *w, uint64_t now_us)
{
    uint64_t until_us = now_us + SLICE_US;
    bool has_started = true;

    w->has_work = false;
    while (has_started && w->in_flight < w->concurrency) {
        has_started = false;
        if (w->at == NULL) { /* a new round */
            for (struct tl__route *r = w->routes; r != NULL; r = r->next)
                r->turn = r->priority * TURN_PER_PRIORITY;
            w->at = w->routes;
        } else {
            has_started = true; /* this round began before the break: go round once in full */
        }
        while (w->at != NULL && w->in_flight < w->concurrency) {
            if (run_turn(w, w->at, until_us, &has_started)) {
                w->has_work = true;
                return;
            }
            if (w->in_flight < w->concurrency)
                w->at = w->at->next;
        }
    }
}
