/*
 * worker_ahead.c: a second lease behind one that is still worked on. An order allows one lease a
 * slot, and at the end of each its handlers would wait for the last of them, the ack and the next
 * claim. So the owner of a full lease asks for what comes next while it works (claim_ahead(), which
 * says when it is given); an event of the second starts only when those of its key in the first are
 * done, and is deferred with one that fails.
 */
#include "worker.h"

#include <string.h>

const char tl__ahead_sql[] =
    "select * from @extschema@.claim_ahead($1::uuid, $2::integer, $3::interval)";

/* ------------------------------------------------------------------------------- pairs -- */

void tl__ahead_deferred(struct tl__lease *l, uint32_t finished)
{
    uint32_t deferred = l->schedule.finished - finished;

    l->failures += deferred;
    l->route->unstarted -= deferred;
    l->route->worker->stats.deferred += deferred;
}

bool tl__ahead_may_start(const struct tl__lease *l)
{
    return l->before != NULL && l->before->schedule.behind == &l->schedule && !l->before->is_lost &&
           !l->before->is_broken;
}

void tl__ahead_part(struct tl__lease *l)
{
    struct tl__lease *next = l->behind;

    if (l->before != NULL) {
        tl__schedule_part(&l->before->schedule);
        l->before->behind = NULL;
    }
    if (next == NULL)
        return;
    next->before = NULL;
    if (l->is_lost) {
        next->is_lost = true; /* who took the one over has fenced the other */
    } else if (l->schedule.finished < l->schedule.count || l->schedule.behind == NULL) {
        next->is_broken = true; /* what it waits for was handed back */
    }
}

static void pair(struct tl__lease *first, struct tl__lease *second)
{
    first->behind = second;
    second->before = first;
    /* without memory for it the second is handed back, see tl__ahead_part() */
    if (tl__schedule_follow(&first->schedule, &second->schedule, tl__lease_key, first, second))
        tl__ahead_deferred(second, 0);
}

/* ----------------------------------------------------------------------------- claiming -- */

static struct tl__lease *last_lease(const struct tl__route *r)
{
    struct tl__lease *l = r->leases;

    while (l != NULL && l->next != NULL)
        l = l->next;
    return l;
}

static void on_ahead(void *owner, void *arg, const PGresult *res)
{
    struct tl_worker *w = owner;
    struct tl__route *r = arg;
    struct tl__lease *first = last_lease(r);
    struct tl__lease *second;
    struct tl__claimed *claimed;
    uint32_t count;

    r->is_ahead = false;
    if (res == NULL)
        return; /* no answer came: if there is a lease, it expires */
    if (PQresultStatus(res) != PGRES_TUPLES_OK) {
        (void)tl__error_from_result(&w->error, res, false);
        w->has_no_ahead = !tl_error_is_retriable(&w->error);
        tl__log(&w->client->settings, TL_LOG_WARN, "%s: nothing claimed ahead: %s", r->name,
                tl_error_message(&w->error));
        return;
    }
    count = (uint32_t)PQntuples(res);
    if (count == 0)
        return;
    w->stats.claims++;
    claimed = tl__claimed_new(tl__bell_take_result(w->bell), TL__COL_POSITION, TL__COL_ATTEMPT);
    if (claimed == NULL)
        return; /* it expires and is claimed again */
    second = tl__lease_new(w, claimed, 0, 0, count, NULL, 0);
    if (second != NULL) {
        second->is_full = count >= w->batch / 2;
        r->may_have_more = true;
        if (first != NULL && first->claimed != NULL && second->route == r)
            pair(first, second);
        else
            second->is_broken =
                true; /* the first was lost, or the subscription left and came again */
    }
    tl__batch_adapt(w, claimed->res, count);
    tl__claimed_unref(claimed);
}

/* Shared claims read the log once for many: no one of those runs ahead. Where handlers return at once nothing
 * waits for the end of a lease. */
static bool wants_more(const struct tl_worker *w, const struct tl__lease *l)
{
    const struct tl__route *r = l->route;

    return !w->has_no_ahead && l->is_full && l->schedule.running > 0 && !l->is_asked &&
           !r->is_ahead && l->behind == NULL && !l->is_lost && !l->is_broken && !l->is_ending &&
           (l->before == NULL || l->before->is_ending) && r->ordering == TL_ORDERING_KEY &&
           r->on_failure != TL_ON_FAILURE_STOP && r->slots == 1 && !r->is_transactional &&
           r->cohort == NULL && r->unstarted <= w->batch / 2 && !tl__lease_is_draining(l);
}

void tl__ahead_ask(struct tl_worker *w, struct tl__lease *l)
{
    struct tl__params p = TL_PARAMS_INIT;

    if (!wants_more(w, l))
        return;
    tl__param_uuid(&p, l->token);
    tl__param_i32(&p, (int32_t)w->batch);
    tl__param_interval(&p, w->lease_us);
    l->is_asked = l->route->is_ahead = tl__bell_send(w->bell, &w->ahead, &p, on_ahead, l->route);
}
