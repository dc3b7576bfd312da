/*
 * worker_claim.c: what a worker claims, and how the rows of a claim become leases.
 *
 * A shared claim reads the log once for several subscriptions: the rows of its events come first,
 * each with a bit for every subscription that wants it, then one row for each of these
 * subscriptions, with its lease and its bit. Such leases are indexes into rows that they share, and
 * an event is decoded once. To stay together its subscriptions form a cohort: while there is a
 * backlog, one that is through waits a moment for the others.
 */
#include "worker.h"

#include "clock.h"

#include <string.h>

#define SHARED (-1)  /* subscription of an event of a shared claim */
#define KEY 6        /* column of an event */
#define HOLD_US 5000 /* a cohort waits so long for its members */
/* of the rows of one claim */
#define SMALL_BYTES (4u << 20)
#define LARGE_BYTES (16u << 20)
/* between two full claims: ask for more, for less */
#define QUICK_US 200000
#define SLOW_US 1000000

/* --------------------------------------------------------------------------------- rows -- */

struct tl__claimed *tl__claimed_new(PGresult *res, int event_col, int attempt_col)
{
    size_t rows = (size_t)PQntuples(res);
    struct tl__claimed *c = calloc(1, sizeof *c + rows * sizeof c->events[0]);

    if (c == NULL) {
        PQclear(res);
        return NULL;
    }
    c->res = res;
    c->refs = 1;
    c->event_col = event_col;
    c->attempt_col = attempt_col;
    return c;
}

void tl__claimed_unref(struct tl__claimed *c)
{
    if (--c->refs == 0) {
        PQclear(c->res);
        free(c);
    }
}

const struct tl_event *tl__lease_event(const struct tl__lease *l, uint32_t index)
{
    int row = tl__lease_row(l, index);
    struct tl_event *e = &l->claimed->events[row];

    if (e->type == NULL)
        tl__event_from_row(l->claimed->res, row, l->claimed->event_col, e);
    return e;
}

int64_t tl__lease_position(const struct tl__lease *l, uint32_t index)
{
    return tl__cell_i64(l->claimed->res, tl__lease_row(l, index), l->claimed->event_col);
}

uint32_t tl__lease_attempt(const struct tl__lease *l, uint32_t index)
{
    const struct tl__claimed *c = l->claimed;
    int row = tl__lease_row(l, index);

    return c->attempt_col < 0 || PQgetisnull(c->res, row, c->attempt_col)
               ? 1
               : (uint32_t)tl__cell_i64(c->res, row, c->attempt_col);
}

const char *tl__lease_key(const void *lease, uint32_t index)
{
    const struct tl__lease *l = lease;

    return tl__cell_text(l->claimed->res, tl__lease_row(l, index), l->claimed->event_col + KEY);
}

/* ------------------------------------------------------------------------------ cohorts -- */

void tl__cohort_leave(struct tl__route *r)
{
    struct tl__cohort *c = r->cohort;

    r->cohort = NULL;
    if (c != NULL && --c->members == 0)
        free(c);
}

static void join(struct tl__cohort *c, struct tl__route *r)
{
    tl__cohort_leave(r);
    if (c == NULL)
        return;
    r->cohort = c;
    c->members++;
}

/* key and total: one lease a slot, and none beside one that was lost but still runs. The next
 * claim may follow the last ack in the same pipeline. */
static bool can_claim(const struct tl_worker *w, const struct tl__route *r)
{
    uint32_t held = 0;

    if (w->is_draining || r->is_forgotten || r->is_ahead ||
        (r->is_transactional && w->tx.retry_at_us != 0))
        return false;
    if (r->ordering == TL_ORDERING_NONE)
        return r->unstarted <= w->batch / 2;
    for (const struct tl__lease *l = r->leases; l != NULL; l = l->next)
        held += !l->is_ending;
    return held == 0 || (held < r->slots && r->unstarted <= w->batch / 2);
}

void tl__claim_prepare(struct tl_worker *w, uint64_t now_us)
{
    w->hold_until_us = UINT64_MAX;
    for (struct tl__route *r = w->routes; r != NULL; r = r->next) {
        r->is_ready = can_claim(w, r);
        if (r->cohort != NULL)
            r->cohort->ready = 0;
    }
    for (struct tl__route *r = w->routes; r != NULL; r = r->next) {
        if (r->cohort != NULL && r->is_ready && ++r->cohort->ready == 1 && r->cohort->since_us == 0)
            r->cohort->since_us = now_us;
    }
    for (struct tl__route *r = w->routes; r != NULL; r = r->next) {
        struct tl__cohort *c = r->cohort;

        if (c == NULL || c->ready == 0 || c->ready == c->members)
            continue;
        if (now_us >= c->since_us + HOLD_US) {
            if (!r->is_ready) /* too slow for the others */
                tl__cohort_leave(r);
            continue;
        }
        r->is_ready = false;
        if (c->since_us + HOLD_US < w->hold_until_us)
            w->hold_until_us = c->since_us + HOLD_US;
    }
    for (struct tl__route *r = w->routes; r != NULL; r = r->next) {
        if (r->may_have_more && r->is_ready)
            tl__waiter_policy_want_tick(tl__bell_policy(w->bell));
    }
}

/* ----------------------------------------------------------------------------- claiming -- */

static void close_array(struct tl__buf *b, struct tl__params *p)
{
    tl__buf_add_str(b, b->len == 0 ? "{}" : "}");
    tl__param_text(p, b->is_failed ? "{}" : b->data);
    p->formats[p->n - 1] = 0;
}

static void add_number(struct tl__buf *b, int64_t n)
{
    tl__buf_add_char(b, b->len == 0 ? '{' : ',');
    tl__buf_add_i64(b, n);
}

void tl__claim_params(struct tl_worker *w, struct tl__params *p)
{
    bool has_pending = false;

    tl__routes_refresh(w, tl__clock_us());
    tl__buf_clear(&w->ids);
    tl__buf_clear(&w->capacities);
    for (struct tl__route *r = w->routes; r != NULL; r = r->next) {
        r->is_asked = r->is_ready;
        /* what is left out now may miss the news that made us look */
        r->may_have_more = !r->is_ready;
        if (!r->is_ready)
            continue;
        if (r->cohort != NULL)
            tl__cohort_leave(r);
        has_pending = has_pending || r->has_pending;
        add_number(&w->ids, r->subscription_id);
        add_number(&w->capacities, tl__route_capacity(r));
    }
    close_array(&w->ids, p);
    close_array(&w->capacities, p);
    tl__param_interval(p, w->lease_us);
    tl__param_text(p, w->owner);
    if (has_pending) /* what such handlers need is a second lease beside the first, see worker_ahead.c */
        tl__param_null(p);
    else
        tl__param_i32(p, TL__LEAST_RANGE);
}

void tl__due_params(struct tl_worker *w, struct tl__params *p)
{
    tl__buf_clear(&w->due_ids);
    for (struct tl__route *r = w->routes; r != NULL; r = r->next) {
        if (r->is_ready)
            add_number(&w->due_ids, r->subscription_id);
    }
    close_array(&w->due_ids, p);
}

/* -------------------------------------------------------------------------------- leases -- */

/* `extra`: so many bytes behind the lease. r: NULL for a subscription that is not served. */
static struct tl__lease *new_lease(struct tl_worker *w, struct tl__route *r, const void *token,
                                   size_t extra)
{
    struct tl__lease *l = r == NULL ? NULL : malloc(sizeof *l + extra);

    if (r != NULL)
        r->is_asked = false; /* it was served */
    if (l == NULL) {
        tl__log(&w->client->settings, TL_LOG_WARN, "a lease was left to expire");
        return NULL;
    }
    *l = (struct tl__lease){.route = r};
    memcpy(l->token, token, sizeof l->token);
    l->extended_at_us = l->settled_at_us = tl__clock_us();
    return l;
}

/* The row `head` has subscription and token. */
static struct tl__lease *new_lease_of_row(struct tl_worker *w, const PGresult *res, int head,
                                          size_t extra)
{
    return new_lease(w, tl__route_find_id(w, tl__cell_i64(res, head, TL__COL_SUBSCRIPTION)),
                     PQgetvalue(res, head, TL__COL_TOKEN), extra);
}

static struct tl__lease *init_schedule(struct tl_worker *w, struct tl__lease *l, uint32_t count)
{
    if (l == NULL || tl__schedule_init(&l->schedule, count, l->route->ordering))
        return l;
    free(l);
    tl__log(&w->client->settings, TL_LOG_WARN, "a lease was left to expire");
    return NULL;
}

static void link_lease(struct tl__lease *l)
{
    struct tl__lease **at = &l->route->leases;

    while (*at != NULL)
        at = &(*at)->next;
    *at = l;
    l->route->unstarted += l->expected + l->schedule.count;
    l->route->next_epoch = 0;
}

struct tl__lease *tl__lease_new(struct tl_worker *w, struct tl__claimed *claimed, int head,
                                int first, uint32_t count, const uint64_t *masks, uint64_t mask)
{
    struct tl__lease *l = init_schedule(
        w, new_lease_of_row(w, claimed->res, head, masks != NULL ? count * sizeof *l->rows : 0),
        count);

    if (l == NULL)
        return NULL;
    l->first_row = (uint32_t)first;
    if (masks != NULL) {
        uint32_t *rows = (uint32_t *)(l + 1);
        uint32_t n = 0;

        for (int i = 0; n < count; i++) {
            if ((masks[i] & mask) != 0)
                rows[n++] = (uint32_t)(first + i);
        }
        l->rows = rows;
    } else if (head == first) {
        l->slot = (uint32_t)tl__cell_i64(claimed->res, head, TL__COL_MEMBERS);
    }
    l->claimed = claimed;
    claimed->refs++;
    link_lease(l);
    return l;
}

/* Less than asked for is the end of the log; an awake sentinel looks there again after a nap, with
 * more to find. Who sleeps looks at once: what came meanwhile is not announced again. */
static bool may_have_more(struct tl_worker *w, uint32_t count)
{
    return count >= w->batch || !tl__waiter_policy_is_awake(tl__bell_policy(w->bell));
}

void tl__claim_take_next(struct tl__route *r, struct tl__claimed *claimed)
{
    struct tl_worker *w = r->worker;
    struct tl__lease *l = init_schedule(w, new_lease(w, r, w->next_token, 0), 1);

    if (l == NULL)
        return;
    l->claimed = claimed;
    claimed->refs++;
    l->next_epoch = w->next_epoch;
    link_lease(l);
    r->next_position = tl__lease_position(l, 0) + 1;
    r->may_have_more = may_have_more(w, 1);
}

/* Of the same lease, or, without one, of the same subscription. */
static bool is_same_lease(const PGresult *res, int a, int b)
{
    if (PQgetisnull(res, a, TL__COL_TOKEN) || PQgetisnull(res, b, TL__COL_TOKEN))
        return PQgetisnull(res, a, TL__COL_TOKEN) && PQgetisnull(res, b, TL__COL_TOKEN) &&
               tl__cell_i64(res, a, TL__COL_SUBSCRIPTION) ==
                   tl__cell_i64(res, b, TL__COL_SUBSCRIPTION);
    return memcmp(PQgetvalue(res, a, TL__COL_TOKEN), PQgetvalue(res, b, TL__COL_TOKEN),
                  sizeof((struct tl__lease){0}.token)) == 0;
}

static bool is_range(const PGresult *res, int row)
{
    return !PQgetisnull(res, row, TL__COL_TOKEN) && PQgetisnull(res, row, TL__COL_ID) &&
           !PQgetisnull(res, row, TL__COL_VERSION);
}

/* A lease whose events are to be read. */
static void take_range(struct tl_worker *w, const PGresult *res, int row)
{
    struct tl__lease *l = new_lease_of_row(w, res, row, 0);
    struct tl__route *r;
    uint64_t now_us;

    if (l == NULL)
        return;
    r = l->route;
    now_us = l->extended_at_us;
    l->after = tl__cell_i64(res, row, TL__COL_POSITION);
    l->upto = tl__cell_i64(res, row, TL__COL_VERSION);
    l->expected = (uint32_t)(l->upto - l->after);
    link_lease(l);
    r->may_have_more = may_have_more(w, l->expected);
    r->can_prefetch = l->after == r->range_upto;
    if (now_us < r->range_claimed_us + TL__FRESH_US)
        r->prefetch_is_late = false;
    r->range_upto = l->upto;
    r->range_horizon = tl__cell_i64(res, row, TL__COL_MEMBERS);
    r->range_claimed_us = now_us;
}

/* The row `first` of an ordinary claim and those of the same lease behind it. Returns the row
 * behind them. */
int tl__claim_take(struct tl_worker *w, struct tl__claimed *claimed, int first)
{
    PGresult *res = claimed->res;
    int end = first + 1;
    struct tl__lease *l;

    while (end < PQntuples(res) && is_same_lease(res, first, end))
        end++;
    if (PQgetisnull(res, first, TL__COL_TOKEN)) {
        /* a claim looks at so many rows and no more; none of them matched */
        struct tl__route *r = tl__route_find_id(w, tl__cell_i64(res, first, TL__COL_SUBSCRIPTION));

        if (r != NULL)
            r->may_have_more = true;
        return end;
    }
    if (is_range(res, first)) {
        take_range(w, res, first);
        return end;
    }
    l = tl__lease_new(w, claimed, first, first, (uint32_t)(end - first), NULL, 0);
    if (l != NULL) { /* a claim serves one slot; others may have something too */
        l->is_full = (uint32_t)(end - first) >= w->batch / 2;
        l->route->next_position = tl__cell_i64(res, end - 1, TL__COL_POSITION) + 1;
        l->route->may_have_more = l->route->slots > 1 || may_have_more(w, (uint32_t)(end - first));
    }
    return end;
}

/* Of a shared claim; one of a range, which may come right behind, has a version. */
static bool is_member(const PGresult *res, int row)
{
    return tl__cell_i64(res, row, TL__COL_SUBSCRIPTION) > 0 &&
           !PQgetisnull(res, row, TL__COL_TOKEN) && PQgetisnull(res, row, TL__COL_ID) &&
           PQgetisnull(res, row, TL__COL_VERSION);
}

/* All that were asked with these and got nothing were passed over by the same read. */
static void join_the_rest(struct tl_worker *w, struct tl__cohort *c, const char *topic)
{
    for (struct tl__route *r = w->routes; r != NULL; r = r->next) {
        if (r->is_asked && strcmp(r->topic, topic) == 0) {
            r->may_have_more = true;
            join(c, r);
        }
    }
}

/* The rows of one shared read. Returns the row behind them. */
static int take_group(struct tl_worker *w, struct tl__claimed *claimed, int first)
{
    PGresult *res = claimed->res;
    struct tl__cohort *cohort = NULL;
    const char *topic = NULL;
    uint64_t *masks;
    int count;
    int row = first + 1;
    bool is_full;

    while (row < PQntuples(res) && tl__cell_i64(res, row, TL__COL_SUBSCRIPTION) == SHARED)
        row++;
    count = row - first;
    is_full = (uint32_t)count >= w->batch;
    masks = calloc((size_t)count, sizeof *masks);
    for (int i = 0; masks != NULL && i < count; i++)
        masks[i] = (uint64_t)tl__cell_i64(res, first + i, TL__COL_MEMBERS);
    if (is_full && masks != NULL)
        cohort = calloc(1, sizeof *cohort);
    for (; row < PQntuples(res) && is_member(res, row); row++) {
        uint64_t mask = (uint64_t)tl__cell_i64(res, row, TL__COL_MEMBERS);
        uint32_t wanted = 0;
        struct tl__lease *l;

        for (int i = 0; masks != NULL && i < count; i++)
            wanted += (masks[i] & mask) != 0;
        if (wanted == 0)
            continue; /* no memory: it expires */
        l = tl__lease_new(w, claimed, row, first, wanted, wanted < (uint32_t)count ? masks : NULL,
                          mask);
        if (l == NULL)
            continue;
        l->route->may_have_more = may_have_more(w, (uint32_t)count);
        join(cohort, l->route);
        topic = l->route->topic;
    }
    if (is_full && topic != NULL)
        join_the_rest(w, cohort, topic);
    if (cohort != NULL && cohort->members == 0)
        free(cohort);
    free(masks);
    return row;
}

/* Between two leases of a subscription with an order nothing of it runs, and every claim has its
 * price, so many small events are better claimed together; large ones would fill the memory, and of
 * those that take long to handle other workers get none. */
void tl__batch_adapt(struct tl_worker *w, const PGresult *res, uint32_t events)
{
    size_t bytes = PQresultMemorySize(res);
    uint64_t now_us = tl__clock_us();

    if (bytes > LARGE_BYTES) {
        w->batch = w->batch > 1 ? w->batch / 2 : 1;
    } else if (events >= w->batch) {
        if (bytes < SMALL_BYTES && now_us < w->full_at_us + QUICK_US)
            w->batch = w->batch < w->claim_batch / 2 ? w->batch * 2 : w->claim_batch;
        else if (now_us >= w->full_at_us + SLOW_US && w->batch > w->first_batch)
            w->batch = w->batch / 2 > w->first_batch ? w->batch / 2 : w->first_batch;
        w->full_at_us = now_us;
    }
}

void tl__claim_done(struct tl_worker *w, PGresult *res)
{
    struct tl__claimed *claimed;
    int rows = PQntuples(res);

    w->stats.polls++;
    if (rows < 2) {
        PQclear(res);
        return;
    }
    w->stats.claims++;
    claimed = tl__claimed_new(res, TL__COL_POSITION, TL__COL_ATTEMPT);
    if (claimed == NULL)
        return; /* the leases expire and are claimed again */
    for (int row = 1; row < rows;)
        row = tl__cell_i64(res, row, TL__COL_SUBSCRIPTION) == SHARED
                  ? take_group(w, claimed, row)
                  : tl__claim_take(w, claimed, row);
    tl__batch_adapt(w, res, (uint32_t)rows - 1);
    tl__claimed_unref(claimed);
}
