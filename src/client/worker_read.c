/*
 * worker_read.c: the events of a lease that was claimed as a range of positions, read by a plain
 * query: the server sends its rows as it finds them, where those of a function are collected first.
 *
 * The claim has said up to which position the log is complete, and the read is a later statement, so
 * it finds every event that there will ever be. Therefore it may even come before its lease: while
 * handlers work on one range, the next is on its way. Whether that was right shows with the next
 * claim; if another worker has been given it, or too much time has passed, it is thrown away. What
 * is handled is decided by leases alone.
 */
#include "worker.h"

#include "clock.h"

struct tl__reading {
    struct tl__route *route;
    struct tl__lease *lease;     /* NULL: ahead of it */
    struct tl__claimed *claimed; /* NULL: no answer yet */
    int64_t after, upto;
    uint64_t sent_at_us;
};

tl_status tl__route_read_init(struct tl__route *r, struct tl_error *e)
{
    /* the columns of an event, then a zero if it has expired */
    tl_status status = tl__statement_init(
        &r->read, e, r->worker->client->settings.schema_quoted, r->topic,
        "select " TL__EVENT_LIST ", case when expires_at <= clock_timestamp() then 0 end"
        " from @extschema@.topic_@topic@"
        " where \"position\" > $1::bigint and \"position\" <= $2::bigint order by \"position\"");

    r->read.is_planned_anew = true; /* a plan for all values would lock every leaf */
    return status;
}

static void drop(struct tl__reading *g)
{
    tl__bell_forget(g->route->worker->bell, g);
    if (g->claimed != NULL)
        tl__claimed_unref(g->claimed);
    free(g);
}

void tl__lease_stop_reading(struct tl__lease *l)
{
    if (l->reading != NULL)
        drop(l->reading);
    l->reading = NULL;
}

void tl__route_drop_prefetched(struct tl__route *r)
{
    if (r->prefetched != NULL)
        drop(r->prefetched);
    r->prefetched = NULL;
}

/* The rows have come for the lease that waits for them. False: no memory. */
static bool deliver(struct tl__lease *l, struct tl__claimed *claimed)
{
    uint32_t count = (uint32_t)PQntuples(claimed->res);

    if (!tl__schedule_init(&l->schedule, count, l->route->ordering))
        return false;
    l->route->unstarted += count - l->expected;
    l->expected = 0;
    l->claimed = claimed;
    claimed->refs++;
    return true;
}

static void on_read(void *owner, void *arg, const PGresult *res)
{
    struct tl_worker *w = owner;
    struct tl__reading *g = arg;
    struct tl__lease *l = g->lease;
    bool is_good = res != NULL && PQresultStatus(res) == PGRES_TUPLES_OK;

    if (is_good) {
        g->claimed = tl__claimed_new(tl__bell_take_result(w->bell), 0, TL__EVENT_COLUMNS);
        if (g->claimed != NULL) {
            tl__batch_adapt(w, g->claimed->res, (uint32_t)PQntuples(g->claimed->res));
            if (l == NULL)
                return; /* kept for the next claim */
            is_good = deliver(l, g->claimed);
        } else {
            is_good = false;
        }
    } else if (res != NULL) {
        tl__error_from_result(&w->error, res, false);
        tl__log(&w->client->settings, TL_LOG_WARN, "%s: cannot read events: %s", g->route->name,
                tl_error_message(&w->error));
    }
    if (l == NULL) {
        tl__route_drop_prefetched(g->route);
        return;
    }
    if (!is_good && res != NULL)
        tl__lease_repeat_later(l);
    tl__lease_stop_reading(l);
}

static struct tl__reading *start(struct tl__route *r, struct tl__lease *l, int64_t after,
                                 int64_t upto, uint64_t now_us)
{
    struct tl__reading *g = malloc(sizeof *g);
    struct tl__params p = TL_PARAMS_INIT;

    if (g == NULL)
        return NULL;
    *g = (struct tl__reading){
        .route = r, .lease = l, .after = after, .upto = upto, .sent_at_us = now_us};
    tl__param_i64(&p, after);
    tl__param_i64(&p, upto);
    if (!tl__bell_send(r->worker->bell, &r->read, &p, on_read, g)) {
        free(g);
        return NULL;
    }
    return g;
}

/* Takes what was read ahead, if that is just what the lease is about. */
static bool adopt(struct tl__lease *l, uint64_t now_us)
{
    struct tl__route *r = l->route;
    struct tl__reading *g = r->prefetched;

    if (g == NULL || g->after != l->after || g->upto != l->upto ||
        now_us > g->sent_at_us + TL__FRESH_US)
        return false;
    r->prefetched = NULL;
    if (g->claimed == NULL) {
        g->lease = l;
        l->reading = g;
        return true;
    }
    if (!deliver(l, g->claimed))
        tl__lease_repeat_later(l);
    drop(g);
    return l->claimed != NULL;
}

void tl__lease_read(struct tl__lease *l, uint64_t now_us)
{
    if (adopt(l, now_us))
        return;
    l->reading = start(l->route, l, l->after, l->upto, now_us);
    if (l->reading == NULL)
        tl__lease_repeat_later(l);
}

void tl__route_prefetch(struct tl__route *r, uint64_t now_us)
{
    int64_t upto = r->range_upto + r->worker->batch;

    if (r->prefetched != NULL && now_us > r->prefetched->sent_at_us + TL__FRESH_US) {
        r->prefetch_is_late = true; /* handlers take longer than this */
        tl__route_drop_prefetched(r);
    }
    if (r->prefetched != NULL || !r->can_prefetch || r->prefetch_is_late || r->is_transactional)
        return;
    r->can_prefetch = false;
    if (upto > r->range_horizon)
        upto = r->range_horizon;
    if (upto >= r->range_upto + TL__LEAST_RANGE)
        r->prefetched = start(r, NULL, r->range_upto, upto, now_us);
}

uint32_t tl__route_capacity(const struct tl__route *r)
{
    /* each of its acks counts what is left */
    if (r->is_transactional && r->worker->batch > r->worker->first_batch)
        return r->worker->first_batch;
    return r->prefetched != NULL ? (uint32_t)(r->prefetched->upto - r->prefetched->after)
                                 : r->worker->batch;
}
