/*
 * worker_abandon.c: tl_worker_abandon: the end without a drain. Blocking calls on the client that
 * the worker was made with, since the worker's own connection may be busy with anything.
 */
#include "worker.h"

#include "clock.h"

#define PATIENCE_US 1000000 /* for all leases together: others wait, and so does the caller */

static tl_status call(tl_client *c, uint64_t until_us, const char *sql, const struct tl__params *p)
{
    c->deadline_us = until_us;
    return tl__call(c, TL__WRITES, NULL, sql, p, NULL);
}

static tl_status settle(tl_client *c, uint64_t until_us, const struct tl__lease *l, uint32_t upto)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf failures = TL_BUF_INIT;
    struct tl__params p = TL_PARAMS_INIT;

    tl__lease_failures(l, upto, &failures);
    if (failures.is_failed)
        return TL_E_NOMEM;
    tl__param_uuid(&p, l->token);
    tl__param_i64(&p, tl__lease_position(l, upto - 1));
    tl__param_text(&p, failures.len > 0 ? failures.data : NULL);
    p.formats[2] = 0;
    return call(c, until_us, "select @extschema@.ack($1::uuid, $2::bigint, $3::jsonb)", &p);
}

/* A lease that is lost, or settled by an ack on its way, is no failure. */
static tl_status hand_back(tl_client *c, uint64_t until_us, struct tl__lease *l)
{
    tl_status status = TL_OK;

    /* what was sent and not answered: just that, and if its failures are known it was executed */
    if ((l->op == TL__LEASE_ACKING || l->is_repeat) && l->acking > l->acked) {
        status = settle(c, until_us, l, l->acking);
        if (status == TL_E_INVALID && l->failures > 0)
            status = TL_OK;
        l->acked = l->acking;
        l->is_bare = false;
    }
    if (status == TL_OK && l->schedule.settled > l->acked)
        status = settle(c, until_us, l, l->schedule.settled);
    /* or its events have not come yet */
    if (status == TL_OK && (l->claimed == NULL || l->schedule.settled < l->schedule.count)) {
        struct tl__params p = TL_PARAMS_INIT;

        tl__param_uuid(&p, l->token);
        status = call(c, until_us, "select @extschema@.release($1::uuid)", &p);
    }
    return status == TL_E_FENCED ? TL_OK : status;
}

tl_status tl_worker_abandon(tl_worker *w)
{
    tl_client *c = w->client;
    struct tl__params none = TL_PARAMS_INIT;
    tl_status status;
    uint64_t until_us;

    if (w->is_inside)
        return tl__error_set(&w->error, TL_E_INVALID, NULL, "not from a handler");
    if (w->is_done)
        return TL_OK;
    tl__worker_finish_completed(w);
    w->is_done = true;
    w->end_status = TL_E_CANCELLED;
    if (!tl__worker_has_leases(w))
        return TL_OK;
    status = tl__call_begin(c);
    until_us = tl__deadline_us(tl__clock_us(), PATIENCE_US);
    for (struct tl__route *r = w->routes; r != NULL && status == TL_OK; r = r->next)
        for (struct tl__lease *l = r->leases; l != NULL && status == TL_OK; l = l->next)
            if (!l->is_lost)
                status = hand_back(c, until_us, l);
    if (status == TL_OK)
        status = call(c, until_us, "select @extschema@.wake_listeners()", &none);
    if (status != TL_OK)
        w->error = c->error;
    return status;
}
