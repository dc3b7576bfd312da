/*
 * worker_next.c: few events come one by one, and each that rings is mostly the one behind the last. So
 * before anything is looked for, a statement claims just that one (prepare_next(), which says when it
 * may); the look comes behind it, and finds what the statement does not. For a worker of one
 * subscription; its statement is prepared in the session when something was claimed and the bell is
 * armed, and asked about again when anything but it has claimed, or an event was not just done: it
 * finds an event only while the cursor has the epoch that it had when nothing else was waiting.
 */
#include "worker.h"

#include "clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

#define MISSES 2 /* in a row: its subscription may have changed, else it was a gap */
#define REFUSED_US 1000000

const char tl__prepare_next_sql[] =
    "select after, upto, epoch from @extschema@.prepare_next($1::bigint, $2::bigint)";

/* The one subscription, if nothing of it is in hand and it is known where it is. */
static struct tl__route *candidate(const struct tl_worker *w)
{
    struct tl__route *r = w->routes;

    return !w->has_no_next && r != NULL && r->next == NULL && r->is_ready && r->slots == 1 &&
                   r->leases == NULL && r->next_position > 0 && tl__bell_session(w->bell) != 0
               ? r
               : NULL;
}

static bool is_prepared(const struct tl__route *r)
{
    return r->next_epoch > 0 && r->claim_next.prepared_on == tl__bell_session(r->worker->bell) &&
           r->next_position > r->next_after && r->next_position <= r->next_upto;
}

/* ------------------------------------------------------------------------- preparing -- */

static void on_prepared(void *owner, void *arg, const PGresult *res)
{
    struct tl_worker *w = owner;
    struct tl__route *r = arg;

    r->is_preparing = false;
    r->claim_next.prepared_on = 0;
    if (res == NULL)
        return;
    r->next_refused_us = tl__clock_us();
    if (PQresultStatus(res) != PGRES_TUPLES_OK) {
        (void)tl__error_from_result(&w->error, res, false);
        w->has_no_next = !tl_error_is_retriable(&w->error);
        tl__log(&w->client->settings, TL_LOG_WARN, "%s: single events are looked for: %s", r->name,
                tl_error_message(&w->error));
        return;
    }
    if (!PQgetisnull(res, 0, 0) || r->leases != NULL)
        r->next_refused_us = 0; /* a claim came first: asked again behind it */
    if (PQgetisnull(res, 0, 0))
        return;
    r->next_after = tl__cell_i64(res, 0, 0);
    r->next_upto = tl__cell_i64(res, 0, 1);
    r->next_epoch = tl__cell_i64(res, 0, 2);
    (void)snprintf(r->claim_next.name, sizeof r->claim_next.name, "trunkline_next_%" PRId64,
                   r->subscription_id);
    r->claim_next.prepared_on = tl__bell_session(w->bell);
}

void tl__next_prepare(struct tl_worker *w, uint64_t now_us)
{
    struct tl__route *r = candidate(w);
    struct tl__params p = TL_PARAMS_INIT;

    if (r == NULL || r->is_preparing || is_prepared(r) || !tl__bell_policy(w->bell)->is_armed ||
        now_us < r->next_refused_us + REFUSED_US)
        return;
    tl__param_i64(&p, r->subscription_id);
    tl__param_i64(&p, r->next_position);
    r->is_preparing = tl__bell_send(w->bell, &w->prepare_next, &p, on_prepared, r);
}

/* -------------------------------------------------------------------------- claiming -- */

/* A UUID of version 4. */
static bool draw_token(uint8_t token[16])
{
    if (getrandom(token, 16, GRND_NONBLOCK) != 16)
        return false;
    token[6] = (token[6] & 0x0f) | 0x40;
    token[8] = (token[8] & 0x3f) | 0x80;
    return true;
}

struct tl__statement *tl__next_params(struct tl_worker *w, struct tl__params *p)
{
    struct tl__route *r = candidate(w);

    if (r == NULL || r->is_preparing || !is_prepared(r) || !draw_token(w->next_token))
        return NULL;
    w->next_id = r->subscription_id;
    w->next_epoch = r->next_epoch + 1;
    tl__param_i64(p, r->next_position);
    tl__param_i64(p, r->next_epoch);
    tl__param_uuid(p, w->next_token);
    tl__param_interval(p, w->lease_us);
    tl__param_text(p, w->owner);
    return &r->claim_next;
}

/* Settled as done it leaves nothing behind; whatever else became of it, that is asked for again. */
void tl__next_settled(const struct tl__lease *l)
{
    struct tl__route *r = l->route;

    if (l->next_epoch > 0 && l->acked == l->schedule.count && l->failures == 0 &&
        r->next_position == tl__lease_position(l, 0) + 1)
        r->next_epoch = l->next_epoch;
}

/* Whatever is served beside it, or instead of it, by now. */
void tl__next_done(struct tl_worker *w, const PGresult *res)
{
    struct tl__route *r = tl__route_find_id(w, w->next_id);
    struct tl__claimed *claimed;

    if (PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) > 0) {
        w->stats.claims++;
        claimed = r == NULL ? NULL : tl__claimed_new(tl__bell_take_result(w->bell), 0, -1);
        if (claimed == NULL)
            return; /* it expires and is claimed again */
        tl__claim_take_next(r, claimed);
        tl__claimed_unref(claimed);
        /* others wait to be woken by the look */
        w->has_next = tl__bell_policy(w->bell)->others == 0;
        r->next_misses = 0;
        return;
    }
    if (r == NULL)
        return;
    r->next_epoch = 0;
    r->next_position = 0; /* until something is claimed again */
    if (PQresultStatus(res) != PGRES_TUPLES_OK || ++r->next_misses >= MISSES) {
        r->claim_next.prepared_on = 0;
        r->next_misses = 0;
        r->next_refused_us = tl__clock_us();
    }
}
