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

/* --------------------------------------------------------------------------- deliveries -- */

static struct tl_delivery *delivery_new(struct tl__lease *l, uint32_t index)
{
    struct tl_worker *w = l->route->worker;
    struct tl_delivery *d = w->idle;

    if (d != NULL) {
        w->idle = d->next;
    } else {
        d = malloc(sizeof *d);
        if (d == NULL)
            return NULL;
        d->next_made = w->made;
        w->made = d;
    }
    d->lease = l;
    d->next = NULL;
    d->event = tl__lease_event(l, index);
    d->index = index;
    d->attempt = tl__lease_attempt(l, index);
    d->verdict = TL_PENDING;
    d->is_expired = d->attempt == 0;
    d->is_pending = d->is_complete = false;
    d->error = NULL;
    d->retry_after_us = d->retry_wish_us = d->retry_floor_us = 0;
    d->id[0] = '\0';
    return d;
}

void tl__delivery_recycle(struct tl_worker *w, struct tl_delivery *d)
{
    free(d->error);
    d->error = NULL;
    d->next = w->idle;
    w->idle = d;
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

/* Nothing more of it starts here; what is unstarted is handed back. */
static void give_up(struct tl__lease *l)
{
    if (l->route->ordering != TL_ORDERING_NONE) {
        l->is_broken = true;
        return;
    }
    for (struct tl__lease *other = l->route->leases; other != NULL; other = other->next)
        other->is_broken = true; /* one that stops the subscription holds up all of it */
}

/* The lease is done with the index: settle it so. */
static void finish(struct tl_worker *w, struct tl_delivery *d)
{
    struct tl__lease *l = d->lease;

    if (!d->is_expired && !l->is_lost && tl__route_waits_for(l->route, d->verdict)) {
        struct tl__lease *next = l->behind;
        uint32_t finished = next != NULL ? next->schedule.finished : 0;
        uint32_t deferred;

        if (!tl__schedule_block(&l->schedule, d->index, tl__lease_key, l, &deferred))
            give_up(l);
        l->failures += deferred;
        l->route->unstarted -= deferred;
        w->stats.deferred += deferred;
        if (next != NULL)
            tl__ahead_deferred(next, finished);
    } else {
        tl__schedule_finish(&l->schedule, d->index);
    }
    if (d->verdict == TL_DONE) {
        tl__delivery_recycle(w, d);
        return;
    }
    l->failures++;
    d->next = l->failed;
    l->failed = d;
}

/* It did not happen: the event is claimed again, here or elsewhere. */
static void give_back(struct tl_worker *w, struct tl_delivery *d)
{
    struct tl__lease *l = d->lease;

    tl__schedule_undo(&l->schedule, d->index);
    l->route->unstarted++;
    l->is_broken = l->is_repeat = true;
    tl__delivery_recycle(w, d);
}

static void end(struct tl_worker *w, struct tl_delivery *d, tl_verdict verdict)
{
    struct tl__lease *l = d->lease;
    uint32_t index = d->index;
    tl_status status = TL_OK;

    if (verdict > TL_FAIL) {
        verdict = TL_RETRY;
        tl_delivery_set_error(d, "handler returned no verdict");
    }
    if (l->route->is_transactional)
        status = tl__tx_end(&w->tx, d, &verdict);
    if (status == TL_E_CONNECTION) {
        tl__log(&w->client->settings, TL_LOG_WARN, "%s: connection lost in a transactional handler",
                l->route->name);
        l->is_crashed = true;
        give_back(w, d);
        return;
    }
    if (status == TL_E_FENCED) {
        tl__log(&w->client->settings, TL_LOG_WARN,
                "%s: lease was lost before the handler's commit: rolled back", l->route->name);
        l->is_lost = true;
        verdict = TL_RETRY;
    }
    d->verdict = verdict;
    count(w, verdict);
    finish(w, d);
    if (l->route->is_transactional && status == TL_OK && verdict == TL_DONE)
        l->acked = index + 1;
}

void tl__worker_finish_completed(struct tl_worker *w)
{
    struct tl_delivery *list = w->completed;
    struct tl_delivery *in_order = NULL;

    w->completed = NULL;
    while (list != NULL) { /* it is a stack */
        struct tl_delivery *d = list;

        list = d->next;
        d->next = in_order;
        in_order = d;
    }
    while (in_order != NULL) {
        struct tl_delivery *d = in_order;

        in_order = d->next;
        w->in_flight--;
        d->lease->route->running--;
        end(w, d, d->verdict);
    }
}

/* ------------------------------------------------------------------------- starting -- */

static void start(struct tl_worker *w, struct tl__lease *l, uint32_t i)
{
    struct tl__route *r = l->route;
    struct tl_delivery *d = delivery_new(l, i);
    tl_verdict verdict;

    if (d == NULL) {
        l->is_broken = true; /* others may have memory */
        return;
    }
    r->unstarted--;
    tl__schedule_start(&l->schedule, i);
    if (d->is_expired) {
        w->stats.expired++;
        finish(w, d);
        return;
    }
    if (r->is_transactional && tl__tx_begin(&w->tx) != TL_OK) {
        tl__log(&w->client->settings, TL_LOG_WARN, "%s: no transaction for the handler: %s",
                r->name, tl_error_message(&w->tx.client.error));
        give_back(w, d);
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
    d->is_pending = r->has_pending = true;
    w->in_flight++;
    r->running++;
    (void)tl__schedule_hold(&l->schedule, tl__lease_key, l);
}

/* With an order, what comes later in a slot waits for the lease before it. */
struct slots {
    uint64_t bits[4];
};

static bool is_taken(const struct slots *s, uint32_t slot)
{
    return (s->bits[slot / 64 % 4] >> slot % 64 & 1) != 0;
}

static void take(struct slots *s, uint32_t slot)
{
    s->bits[slot / 64 % 4] |= (uint64_t)1 << slot % 64;
}

/* The next delivery of a route that may start now. */
static struct tl__lease *find_startable(struct tl_worker *w, struct tl__route *r, uint32_t *ret_i)
{
    struct slots taken = {{0}};

    if ((r->concurrency > 0 && r->running >= r->concurrency) ||
        (r->is_transactional && (w->tx.is_busy || w->tx.retry_at_us != 0)))
        return NULL;
    for (struct tl__lease *l = r->leases; l != NULL; l = l->next) {
        uint32_t limit = tl__lease_is_draining(l) ? l->schedule.started : l->schedule.count;

        /* a transactional handler settles its event itself: never beside another ack */
        if (!l->is_lost && !l->is_broken && !(r->is_transactional && l->op != TL__LEASE_IDLE) &&
            (!is_taken(&taken, l->slot) || tl__ahead_may_start(l))) {
            *ret_i = tl__schedule_peek(&l->schedule, limit);
            if (*ret_i != TL__SCHEDULE_NONE)
                return l;
        }
        if (r->ordering != TL_ORDERING_NONE &&
            (l->claimed == NULL || l->schedule.finished < l->schedule.count))
            take(&taken, l->slot);
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
