/*
 * worker_route.c: the subscriptions that a worker serves, and what it needs to know of them. Their
 * settings are asked for once a second, in front of a claim in the same pipeline; the server
 * answers with those that differ from what we know. Leases that are held go on as they began.
 */
#include "worker.h"

#include <inttypes.h>
#include <string.h>

#define REFRESH_US 1000000

struct tl__route *tl__route_free(struct tl__route *r)
{
    if (r != NULL) {
        while (r->leases != NULL)
            tl__lease_free(r->leases);
        tl__cohort_leave(r);
        tl__route_drop_prefetched(r);
        tl__statement_done(&r->read);
        tl__statement_done(&r->claim_next);
        free(r->name);
        free(r->topic);
        free(r);
    }
    return NULL;
}

struct tl__route *tl__route_find(const struct tl_worker *w, const char *name)
{
    struct tl__route *r = w->routes;

    while (r != NULL && (r->is_forgotten || strcmp(r->name, name) != 0))
        r = r->next;
    return r;
}

struct tl__route *tl__route_find_id(const struct tl_worker *w, int64_t subscription_id)
{
    struct tl__route *found = NULL;

    for (struct tl__route *r = w->routes; r != NULL; r = r->next) {
        if (r->subscription_id == subscription_id && (found == NULL || found->is_forgotten))
            found = r;
    }
    return found;
}

/* Higher priority first, then by name: the order of claims and of turns. */
static void link_route(struct tl_worker *w, struct tl__route *r)
{
    struct tl__route **at = &w->routes;

    while (*at != NULL && ((*at)->priority > r->priority ||
                           ((*at)->priority == r->priority && strcmp((*at)->name, r->name) < 0)))
        at = &(*at)->next;
    r->next = *at;
    *at = r;
}

static void unlink_route(struct tl_worker *w, struct tl__route *r)
{
    struct tl__route **at = &w->routes;

    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    if (w->at == r)
        w->at = r->next;
}

/* Columns from first on: ordering, on_failure, priority, slots. */
static void read_settings(struct tl__route *r, const PGresult *res, int row, int first)
{
    const char *ordering = tl__cell_text(res, row, first);
    const char *on_failure = tl__cell_text(res, row, first + 1);

    r->ordering = strcmp(ordering, "none") == 0    ? TL_ORDERING_NONE
                  : strcmp(ordering, "total") == 0 ? TL_ORDERING_TOTAL
                                                   : TL_ORDERING_KEY;
    r->on_failure = strcmp(on_failure, "retry") == 0  ? TL_ON_FAILURE_RETRY
                    : strcmp(on_failure, "stop") == 0 ? TL_ON_FAILURE_STOP
                                                      : TL_ON_FAILURE_BLOCK_KEY;
    r->priority = (uint32_t)tl__cell_i64(res, row, first + 2);
    r->slots = (uint32_t)tl__cell_i64(res, row, first + 3);
}

/* The slots in force are those that have a cursor. */
#define SETTINGS                                                                                   \
    "s.ordering, s.on_failure, s.priority, (select count(*)::integer from @extschema@.cursors c"   \
    " where c.subscription_id = s.subscription_id) as slots"

tl_status tl__route_add(struct tl_worker *w, const char *name, struct tl__route **ret)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    struct tl__params p = TL_PARAMS_INIT;
    struct tl_client *c = w->client;
    struct tl__route *r;
    tl_status status = tl__call_begin(c);

    tl__param_text(&p, name);
    if (status == TL_OK)
        status = tl__call(c, TL__READS, NULL,
                          "select s.subscription_id, t.name, " SETTINGS
                          " from @extschema@.subscriptions s"
                          " join @extschema@.topics t on t.topic_id = s.topic_id"
                          " where s.name = $1::text",
                          &p, &res);
    if (status != TL_OK)
        return status;
    if (PQntuples(res) != 1)
        return tl__error_set(&c->error, TL_E_NOTFOUND, NULL, "subscription \"%s\" does not exist",
                             name);
    r = calloc(1, sizeof *r);
    if (r == NULL)
        return tl__error_nomem(&c->error);
    r->worker = w;
    r->subscription_id = tl__cell_i64(res, 0, 0);
    r->name = strdup(name);
    r->topic = strdup(tl__cell_text(res, 0, 1));
    read_settings(r, res, 0, 2);
    r->may_have_more = true;
    if (r->name == NULL || r->topic == NULL) {
        tl__route_free(r);
        return tl__error_nomem(&c->error);
    }
    status = tl__route_read_init(r, &c->error);
    if (status != TL_OK) {
        tl__route_free(r);
        return status;
    }
    link_route(w, r);
    *ret = r;
    return TL_OK;
}

/* Not while a claim is on its way: it may bring something for them. */
bool tl__route_can_be_freed(const struct tl__route *r)
{
    return r->is_forgotten && r->leases == NULL && !r->is_ahead && !r->is_preparing &&
           !tl__bell_policy(r->worker->bell)->is_busy;
}

void tl__routes_free_forgotten(struct tl_worker *w)
{
    for (struct tl__route *r = w->routes, *next; r != NULL; r = next) {
        next = r->next;
        if (tl__route_can_be_freed(r)) {
            unlink_route(w, r);
            tl__route_free(r);
        }
    }
}

bool tl__route_waits_for(const struct tl__route *r, tl_verdict verdict)
{
    switch (r->on_failure) {
    case TL_ON_FAILURE_BLOCK_KEY:
        return verdict == TL_RETRY && r->ordering != TL_ORDERING_NONE;
    case TL_ON_FAILURE_STOP:
        return verdict == TL_RETRY || verdict == TL_FAIL;
    default:
        return false;
    }
}

/* ----------------------------------------------------------------------------- settings -- */

const char tl__routes_refresh_sql[] =
    "select q.subscription_id, q.ordering, q.on_failure, q.priority, q.slots, k.known"
    " from unnest($1::bigint[], $2::text[]) k(subscription_id, known)"
    " join lateral (select s.subscription_id, " SETTINGS " from @extschema@.subscriptions s"
    " where s.subscription_id = k.subscription_id) q on true"
    " where concat_ws(' ', q.ordering, q.on_failure, q.priority, q.slots) <> k.known";

static void on_settings(void *owner, void *arg, const PGresult *res)
{
    struct tl_worker *w = owner;

    (void)arg;
    if (res == NULL || PQresultStatus(res) != PGRES_TUPLES_OK)
        return; /* asked again in a second */
    for (int row = 0; row < PQntuples(res); row++) {
        int64_t id = tl__cell_i64(res, row, TL__COL_SUBSCRIPTION);

        for (struct tl__route *r = w->routes, *next; r != NULL; r = next) {
            next = r->next;
            if (r->subscription_id != id)
                continue;
            unlink_route(w, r);
            read_settings(r, res, row, 1);
            r->may_have_more = true; /* more slots, perhaps */
            link_route(w, r);
        }
    }
}

static void add_known(struct tl__buf *b, const struct tl__route *r)
{
    static const char *const orderings[] = {
        [TL_ORDERING_KEY] = "key", [TL_ORDERING_NONE] = "none", [TL_ORDERING_TOTAL] = "total"};
    static const char *const on_failures[] = {[TL_ON_FAILURE_RETRY] = "retry",
                                              [TL_ON_FAILURE_BLOCK_KEY] = "block_key",
                                              [TL_ON_FAILURE_STOP] = "stop"};

    tl__buf_addf(b, "%s\"%s %s %u %u\"", b->len == 0 ? "{" : ",", orderings[r->ordering],
                 on_failures[r->on_failure], r->priority, r->slots);
}

void tl__routes_refresh(struct tl_worker *w, uint64_t now_us)
{
    struct tl__params p = TL_PARAMS_INIT;

    if (w->routes == NULL || now_us < w->refreshed_at_us + REFRESH_US)
        return;
    tl__buf_clear(&w->ids);
    tl__buf_clear(&w->known);
    for (struct tl__route *r = w->routes; r != NULL; r = r->next) {
        tl__buf_addf(&w->ids, "%s%" PRId64, w->ids.len == 0 ? "{" : ",", r->subscription_id);
        add_known(&w->known, r);
    }
    tl__buf_add_char(&w->ids, '}');
    tl__buf_add_char(&w->known, '}');
    if (w->ids.is_failed || w->known.is_failed)
        return;
    tl__param_text(&p, w->ids.data);
    tl__param_text(&p, w->known.data);
    p.formats[0] = p.formats[1] = 0;
    if (tl__bell_send(w->bell, &w->settings, &p, on_settings, NULL))
        w->refreshed_at_us = now_us;
}
