/*
 * worker_lease.c: leases of a worker: settled by acks that travel in the same pipeline as the next
 * claim, kept alive, handed back. Handlers are not its business.
 *
 * An ack is repeated until the server has answered it; the handlers behind it never run again for
 * that (RET-8). TL004 says that somebody else owns the lease: it is dropped and nothing else.
 */
#include "worker.h"

#include "clock.h"
#include "json.h"

#include <inttypes.h>
#include <string.h>

#define ACK_PAUSE_US 50000 /* before a failed ack is repeated; doubles */
#define ACK_PAUSE_CAP_US 5000000
#define LEAST_LEASE_US 1000 /* that extend() takes */

tl_status tl__worker_statements_init(struct tl_worker *w)
{
    const char *schema = w->client->settings.schema_quoted;
    tl_status status =
        tl__statement_init(&w->ack, &w->error, schema, NULL,
                           "select @extschema@.ack($1::uuid, $2::bigint, $3::jsonb)");

    if (status == TL_OK)
        status = tl__statement_init(&w->release, &w->error, schema, NULL,
                                    "select @extschema@.release($1::uuid)");
    if (status == TL_OK)
        status = tl__statement_init(&w->extend, &w->error, schema, NULL,
                                    "select @extschema@.extend($1::uuid, $2::interval)");
    if (status == TL_OK)
        status = tl__statement_init(&w->ahead, &w->error, schema, NULL, tl__ahead_sql);
    if (status == TL_OK)
        status = tl__statement_init(&w->settings, &w->error, schema, NULL, tl__routes_refresh_sql);
    if (status == TL_OK)
        status =
            tl__statement_init(&w->prepare_next, &w->error, schema, NULL, tl__prepare_next_sql);
    return status;
}

void tl__lease_free(struct tl__lease *l)
{
    struct tl__route *r = l->route;
    struct tl__lease **at = &r->leases;

    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    tl__next_settled(l);
    tl__ahead_part(l);
    /* What waited for it was looked for in vain meanwhile; with one slot it is looked for behind the ack. */
    if (r->is_forgotten || r->slots > 1)
        tl__route_find_id(r->worker, r->subscription_id)->may_have_more = true;
    if (r->is_forgotten)
        tl__bell_wake_others(r->worker->bell);
    r->unstarted -= l->expected + l->schedule.count - l->schedule.finished - l->schedule.running;
    while (l->failed != NULL) {
        struct tl_delivery *d = l->failed;

        l->failed = d->next;
        tl__delivery_recycle(r->worker, d);
    }
    tl__bell_forget(r->worker->bell, l);
    tl__lease_stop_reading(l);
    tl__schedule_done(&l->schedule);
    if (l->claimed != NULL)
        tl__claimed_unref(l->claimed);
    free(l);
}

/* ------------------------------------------------------------------------- settling -- */

bool tl__lease_is_draining(const struct tl__lease *l)
{
    return l->route->worker->is_draining || l->route->is_forgotten;
}

static void lose(struct tl__lease *l, const char *what)
{
    struct tl_worker *w = l->route->worker;

    l->is_lost = true;
    l->op = TL__LEASE_IDLE;
    tl__log(&w->client->settings, TL_LOG_WARN, "%s: lease dropped after %s: %s", l->route->name,
            what, tl_error_message(&w->error));
}

void tl__lease_repeat_later(struct tl__lease *l)
{
    l->op = TL__LEASE_IDLE;
    l->is_ending = false;
    l->pause_us = l->pause_us == 0 ? ACK_PAUSE_US : l->pause_us * 2;
    if (l->pause_us > ACK_PAUSE_CAP_US)
        l->pause_us = ACK_PAUSE_CAP_US;
    l->retry_at_us = tl__clock_us() + l->pause_us;
}

/* True: the lease goes on. */
static bool is_answer_good(struct tl__lease *l, const PGresult *res, const char *what)
{
    struct tl_worker *w = l->route->worker;
    tl_status status;

    if (res == NULL) { /* no answer came */
        l->op = TL__LEASE_IDLE;
        l->is_ending = false;
        l->is_repeat = true;
        return false;
    }
    if (PQresultStatus(res) == PGRES_TUPLES_OK)
        return true;
    status = tl__error_from_result(&w->error, res, false);
    if (status == TL_E_INVALID && l->is_repeat && !l->is_bare && l->failures > 0) {
        /* The first one was executed: what it settled cannot fail again. */
        l->is_bare = true;
        l->op = TL__LEASE_IDLE;
        l->is_ending = false;
    } else if (tl_error_is_retriable(&w->error)) {
        tl__lease_repeat_later(l);
    } else {
        lose(l, what);
    }
    return false;
}

static void on_ack(void *owner, void *arg, const PGresult *res)
{
    struct tl__lease *l = arg;

    (void)owner;
    if (!is_answer_good(l, res, "ack"))
        return;
    l->op = TL__LEASE_IDLE;
    l->acked = l->acking;
    l->settled_at_us = tl__clock_us();
    l->is_repeat = l->is_bare = false;
    l->pause_us = 0;
    if (l->acked == l->schedule.count)
        tl__lease_free(l);
}

static void on_release(void *owner, void *arg, const PGresult *res)
{
    struct tl__lease *l = arg;
    struct tl_worker *w = owner;

    if (!is_answer_good(l, res, "release"))
        return;
    tl__bell_wake_others(w->bell); /* no publisher will */
    tl__lease_free(l);
}

static void on_extend(void *owner, void *arg, const PGresult *res)
{
    struct tl__lease *l = arg;
    struct tl_worker *w = owner;

    l->is_extending = false;
    if (res == NULL)
        l->extended_at_us = 0; /* first thing on the next connection */
    if (res == NULL || PQresultStatus(res) == PGRES_TUPLES_OK || l->is_lost)
        return;
    if (tl__error_from_result(&w->error, res, false) == TL_E_FENCED && !l->is_ending)
        lose(l, "extend");
}

static void add_failure(struct tl__buf *out, int64_t position, const char *verdict)
{
    tl__buf_add_str(out, out->len == 0 ? "[{\"position\":" : ",{\"position\":");
    tl__buf_add_i64(out, position);
    tl__buf_addf(out, ",\"verdict\":\"%s\"", verdict);
}

static const char *verdict_word(const struct tl_delivery *d)
{
    if (d->is_expired)
        return "expired";
    return d->verdict == TL_SKIP ? "skip" : d->verdict == TL_FAIL ? "fail" : "retry";
}

void tl__lease_failures(const struct tl__lease *l, uint32_t upto, struct tl__buf *out)
{
    if (l->failures == 0 || l->is_bare)
        return;
    for (const struct tl_delivery *d = l->failed; d != NULL; d = d->next) {
        if (d->index < l->acked || d->index >= upto)
            continue;
        add_failure(out, d->event->position, verdict_word(d));
        if (d->error != NULL) {
            tl__buf_add_str(out, ",\"error\":");
            tl__json_add_text(out, d->error);
        }
        if (d->verdict == TL_RETRY && d->retry_after_us > 0)
            tl__buf_addf(out, ",\"retry_after_us\":%" PRIu64, d->retry_after_us);
        if (d->verdict == TL_RETRY && d->retry_wish_us > 0)
            tl__buf_addf(out, ",\"wish_us\":%" PRIu64, d->retry_wish_us);
        if (d->verdict == TL_RETRY && d->retry_floor_us > 0)
            tl__buf_addf(out, ",\"floor_us\":%" PRIu64, d->retry_floor_us);
        tl__buf_add_char(out, '}');
    }
    for (uint32_t i = l->acked; i < upto; i++) {
        if (tl__schedule_is_deferred(&l->schedule, i)) {
            add_failure(out, tl__lease_position(l, i), "defer");
            tl__buf_add_char(out, '}');
        }
    }
    if (out->len > 0)
        tl__buf_add_char(out, ']');
}

/* Settle the indexes below upto. */
static void send_ack(struct tl_worker *w, struct tl__lease *l, uint32_t upto)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf failures = TL_BUF_INIT;
    struct tl__params p = TL_PARAMS_INIT;
    bool is_all = upto == l->schedule.count;

    tl__lease_failures(l, upto, &failures);
    if (failures.is_failed) {
        tl__lease_repeat_later(l);
        return;
    }
    tl__param_uuid(&p, l->token);
    if (is_all)
        tl__param_null(&p);
    else
        tl__param_i64(&p, tl__lease_position(l, upto - 1));
    if (failures.len > 0) {
        tl__param_text(&p, failures.data);
        p.formats[p.n - 1] = 0;
    } else {
        tl__param_null(&p);
    }
    if (failures.len > 0) /* it may be due again before anything else happens */
        l->route->may_have_more = true;
    l->op = TL__LEASE_ACKING;
    l->acking = upto;
    l->is_ending = is_all;
    if (!tl__bell_send(w->bell, &w->ack, &p, on_ack, l)) {
        l->op = TL__LEASE_IDLE;
        l->is_ending = false;
    }
}

/* What a handler's connection died of may be the handler, which would have no end if no attempt was
 * counted: let it expire, as after a crash, so that its events come again one a lease. */
static void send_release(struct tl_worker *w, struct tl__lease *l)
{
    struct tl__params p = TL_PARAMS_INIT;
    struct tl__statement *how = l->is_crashed ? &w->extend : &w->release;

    tl__param_uuid(&p, l->token);
    if (l->is_crashed)
        tl__param_interval(&p, LEAST_LEASE_US);
    l->op = TL__LEASE_RELEASING;
    l->is_ending = true;
    if (!tl__bell_send(w->bell, how, &p, on_release, l)) {
        l->op = TL__LEASE_IDLE;
        l->is_ending = false;
    }
}

static void send_extend(struct tl_worker *w, struct tl__lease *l, uint64_t now_us)
{
    struct tl__params p = TL_PARAMS_INIT;

    tl__param_uuid(&p, l->token);
    tl__param_interval(&p, w->lease_us);
    l->is_extending = tl__bell_send(w->bell, &w->extend, &p, on_extend, l);
    if (l->is_extending)
        l->extended_at_us = now_us;
}

/* Nothing of it runs and nothing more will start. Those below the highest that started are not
 * given up on the way out: they hold back the settling of others that are done. */
static bool is_at_rest(struct tl__lease *l)
{
    return l->schedule.running == 0 &&
           (l->is_broken ||
            tl__schedule_peek(&l->schedule, l->schedule.started) == TL__SCHEDULE_NONE);
}

/* The answer to an ack was lost. The same range again, whatever has finished since: should it turn
 * out that the failures in it are recorded, then no later one may pass for recorded as well. */
static bool must_repeat(const struct tl__lease *l)
{
    return l->is_repeat && l->acking > l->acked &&
           !(l->route->is_transactional && l->schedule.running > 0);
}

static void step(struct tl_worker *w, struct tl__lease *l, uint64_t now_us)
{
    struct tl__schedule *s = &l->schedule;

    if (l->is_lost) {
        if (s->running == 0)
            tl__lease_free(l);
        return;
    }
    if (l->op != TL__LEASE_IDLE)
        return;
    tl__ahead_ask(w, l);
    if (now_us >= l->retry_at_us && l->before == NULL) {
        if (must_repeat(l)) {
            send_ack(w, l, l->acking);
            return;
        }
        if (l->claimed != NULL && s->finished == s->count) {
            if (s->count > 0 && l->acked == s->count)
                tl__lease_free(l); /* its last event was settled by a transactional handler */
            else
                send_ack(w, l, s->count);
            return;
        }
        if ((l->is_broken || tl__lease_is_draining(l)) && is_at_rest(l)) {
            if (s->settled > l->acked)
                send_ack(w, l, s->settled);
            else
                send_release(w, l);
            return;
        }
        if (l->claimed == NULL && l->reading == NULL)
            tl__lease_read(l, now_us);
        /* not beside a transaction that settles the same lease */
        if (s->settled > l->acked && now_us >= l->settled_at_us + w->lease_us / 2 &&
            !(l->route->is_transactional && s->running > 0))
            send_ack(w, l, s->settled);
    }
    if (now_us >= l->extended_at_us + w->lease_us / 3 && !l->is_extending)
        send_extend(w, l, now_us);
}

uint64_t tl__worker_leases_deadline_us(const struct tl_worker *w)
{
    uint64_t least = w->hold_until_us;

    if (!tl__bell_is_ready(w->bell))
        return UINT64_MAX;
    for (const struct tl__route *r = w->routes; r != NULL; r = r->next) {
        for (const struct tl__lease *l = r->leases; l != NULL; l = l->next) {
            const struct tl__schedule *s = &l->schedule;
            uint64_t at = UINT64_MAX;

            if (l->is_lost) {
                at = s->running == 0 ? 0 : UINT64_MAX;
            } else if (l->op != TL__LEASE_IDLE) {
                at = UINT64_MAX; /* the answer comes by the socket */
            } else if (l->before != NULL) {
                at = UINT64_MAX; /* it is settled when that has ended */
            } else if (must_repeat(l)) {
                at = l->retry_at_us;
            } else if (l->is_broken || tl__lease_is_draining(l) ||
                       (l->claimed == NULL ? l->reading == NULL : s->finished == s->count)) {
                if (s->running == 0)
                    at = l->retry_at_us;
            } else if (s->settled > l->acked) {
                at = l->settled_at_us + w->lease_us / 2;
                at = at > l->retry_at_us ? at : l->retry_at_us;
            }
            if (l->op == TL__LEASE_IDLE && !l->is_lost && !l->is_extending &&
                l->extended_at_us + w->lease_us / 3 < at)
                at = l->extended_at_us + w->lease_us / 3;
            if (at < least)
                least = at;
        }
    }
    return least;
}

bool tl__worker_has_leases(const struct tl_worker *w)
{
    for (const struct tl__route *r = w->routes; r != NULL; r = r->next) {
        if (r->leases != NULL)
            return true;
    }
    return false;
}

/* -------------------------------------------------------------------------- the bell's calls -- */

static void before_write(void *owner)
{
    struct tl_worker *w = owner;
    uint64_t now_us = tl__clock_us();

    if (w->tx.retry_at_us != 0 && now_us >= w->tx.retry_at_us)
        w->tx.retry_at_us = 0;
    for (struct tl__route *r = w->routes; r != NULL; r = r->next) {
        for (struct tl__lease *l = r->leases, *next; l != NULL; l = next) {
            next = l->next;
            step(w, l, now_us);
        }
        tl__route_prefetch(r, now_us);
    }
    tl__claim_prepare(w, now_us);
    tl__next_prepare(w, now_us);
}

static void claim_params(void *owner, struct tl__params *p)
{
    tl__claim_params(owner, p);
}

static void due_params(void *owner, struct tl__params *p)
{
    tl__due_params(owner, p);
}

static struct tl__statement *next_params(void *owner, struct tl__params *p)
{
    return tl__next_params(owner, p);
}

static void on_next(void *owner, const PGresult *res)
{
    tl__next_done(owner, res);
}

static void on_claimed(void *owner, PGresult *res, bool has_changed)
{
    (void)has_changed;
    tl__claim_done(owner, res);
}

const struct tl__bell_owner tl__worker_bell_owner = {
    .before = before_write,
    .claim_params = claim_params,
    .due_params = due_params,
    .next = next_params,
    .next_done = on_next,
    .claimed = on_claimed,
};
