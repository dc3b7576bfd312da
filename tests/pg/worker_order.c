/*
 * worker_order.c: the order of keys under failures, for every size of prefetch: SUB-10, WRK-3, and
 * that a change of a subscription's settings reaches a running worker.
 */
#include "worker_env.h"

enum { KEYS = 5, EVENTS = 60, MAX_HELD = 64 };

/* --------------------------------------------------------------- every prefetch, every order -- */

enum how { AT_ONCE, HELD, MIXED };

/* Says "failed" and "later" at random, and checks each call against what the order allows. */
struct world {
    struct env *e;
    enum how how;
    bool is_total;
    unsigned seed;
    int done[EVENTS + 1];
    int done_count;
    bool is_running[EVENTS + 1];
    int failures;
    tl_delivery *held[MAX_HELD];
    int held_count;
};

static unsigned below(struct world *o, unsigned n)
{
    o->seed = o->seed * 1103515245u + 12345u;
    return (o->seed >> 16) % n;
}

static int number_of(const tl_delivery *d)
{
    const char *colon = strchr(tl_event_data(tl_delivery_event(d), NULL), ':');

    return (int)strtol(colon + 1, NULL, 10);
}

/* Every earlier event of its key (total: every one) is done, and none of them runs. */
static void check_order(const struct world *o, int n)
{
    assert_false(o->done[n]);
    for (int i = 1; i <= EVENTS; i++) {
        if (!o->is_total && i % KEYS != n % KEYS)
            continue;
        assert_false(o->is_running[i]);
        assert_true(i >= n || o->done[i]);
    }
}

static tl_verdict finish(struct world *o, int n)
{
    o->is_running[n] = false;
    if (below(o, 4) == 0) {
        o->failures++;
        return TL_RETRY;
    }
    o->done[n] = 1;
    o->done_count++;
    return TL_DONE;
}

static tl_verdict in_order(tl_delivery *d, void *userdata)
{
    struct world *o = userdata;
    int n = number_of(d);

    check_order(o, n);
    o->is_running[n] = true;
    if (o->held_count < MAX_HELD && o->how != AT_ONCE && (o->how == HELD || below(o, 2) == 0)) {
        o->held[o->held_count++] = d;
        return TL_PENDING;
    }
    return finish(o, n);
}

/* Completes one that is held now and then. */
static bool is_all_done(void *arg)
{
    struct world *o = arg;

    if (o->held_count > 0) {
        int i = (int)below(o, (unsigned)o->held_count);
        tl_delivery *d = o->held[i];

        o->held[i] = o->held[--o->held_count];
        tl_delivery_complete(d, finish(o, number_of(d)));
    }
    return o->done_count == EVENTS && o->held_count == 0;
}

static bool is_settled(void *arg)
{
    struct env *e = arg;

    return number(e, "select (select count(*) from trunkline.leases) + "
                     "(select count(*) from trunkline.retries)") == 0;
}

static void publish_keyed(struct env *e, int count)
{
    char sql[256];

    snprintf(sql, sizeof sql,
             "insert into trunkline.topic_bus (type, data, key) select 'a', "
             "jsonb_build_object('n', i), 'k' || i %% %d from generate_series(1, %d) i",
             KEYS, count);
    test_db_exec(e->admin, sql);
}

static void keeps_order(struct env *e, tl_ordering ordering, enum how how, bool is_transactional,
                        uint32_t claim_batch, uint32_t concurrency)
{
    struct world *o = calloc(1, sizeof *o);
    tl_subscribe_options options = subscribe_options(ordering);
    tl_router *r = new_router();
    tl_worker *w;

    *o = (struct world){.e = e,
                        .how = how,
                        .is_total = ordering == TL_ORDERING_TOTAL,
                        .seed = claim_batch * 31 + concurrency};
    options.max_attempts = 1000;
    options.retry_delay_us = 100;
    options.retry_cap_us = 1000;
    assert_int_equal(tl_router_on(r, "**", in_order, o,
                                  TL_ROUTE_OPTIONS(.name = "h", .transactional = is_transactional,
                                                   .subscribe = options)),
                     TL_OK);
    w = new_worker(e->client, r,
                   TL_WORKER_OPTIONS(.claim_batch = claim_batch, .concurrency = concurrency));
    tl_router_free(r);
    drive_one(w, is_all_done, o);
    drive_one(w, is_settled, e);
    assert_true(o->failures > 0);
    assert_true(claim_batch < EVENTS || stats_of(w).deferred > 0 || ordering != TL_ORDERING_KEY);
    assert_int_equal(number(e, "select count(*) from trunkline.dead_letters"), 0);
    tl_worker_free(w);
    test_db_exec(e->admin, "select trunkline.unsubscribe('m/h', true)");
    free(o);
}

/* SUB-10, WRK-3 */
static void keys_keep_their_order_for_every_prefetch(void **state)
{
    static const uint32_t batches[] = {1, 2, 3, 7, 100};
    static const uint32_t concurrencies[] = {1, 2, 5, 50};
    struct env *e = *state;

    publish_keyed(e, EVENTS);
    for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
        keeps_order(e, TL_ORDERING_KEY, AT_ONCE, false, batches[b], 1);
        for (size_t c = 0; c < sizeof concurrencies / sizeof concurrencies[0]; c++)
            keeps_order(e, TL_ORDERING_KEY, c % 2 == 0 ? MIXED : HELD, false, batches[b],
                        concurrencies[c]);
    }
}

/* SUB-10, WRK-7 */
static void keys_keep_their_order_in_transactions(void **state)
{
    static const uint32_t batches[] = {1, 3, 100};
    struct env *e = *state;

    publish_keyed(e, EVENTS);
    for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
        keeps_order(e, TL_ORDERING_KEY, AT_ONCE, true, batches[b], 5);
        keeps_order(e, TL_ORDERING_KEY, MIXED, true, batches[b], 5);
    }
}

/* SUB-10 */
static void total_order_waits_for_what_failed(void **state)
{
    static const uint32_t batches[] = {1, 3, 100};
    struct env *e = *state;

    publish_keyed(e, EVENTS);
    for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
        keeps_order(e, TL_ORDERING_TOTAL, AT_ONCE, false, batches[b], 5);
        keeps_order(e, TL_ORDERING_TOTAL, MIXED, false, batches[b], 5);
        keeps_order(e, TL_ORDERING_TOTAL, MIXED, true, batches[b], 5);
    }
}

/* ------------------------------------------------------------------------- one failing key -- */

struct failing {
    const char *key; /* fails */
    tl_verdict verdict;
    struct seen seen;
};

static tl_verdict fail_key(tl_delivery *d, void *userdata)
{
    struct failing *f = userdata;
    const char *key = tl_event_key(tl_delivery_event(d));

    see(&f->seen, d);
    return f->key != NULL && key != NULL && strcmp(key, f->key) == 0 ? f->verdict : TL_DONE;
}

static tl_worker *failing_worker(struct env *e, struct failing *f, tl_ordering ordering,
                                 tl_on_failure on_failure, uint32_t max_attempts,
                                 uint64_t retry_delay_us)
{
    tl_subscribe_options options = subscribe_options(ordering);
    tl_router *r = new_router();
    tl_worker *w;

    options.on_failure = on_failure;
    options.max_attempts = max_attempts;
    options.retry_delay_us = retry_delay_us;
    options.retry_cap_us = retry_delay_us;
    assert_int_equal(
        tl_router_on(r, "**", fail_key, f, TL_ROUTE_OPTIONS(.name = "h", .subscribe = options)),
        TL_OK);
    w = new_worker(e->client, r, NULL);
    tl_router_free(r);
    return w;
}

static bool are_waiting(void *arg)
{
    struct env *e = arg;

    return number(e, "select count(*) from trunkline.retries where token is null") == 12 &&
           number(e, "select count(*) from trunkline.leases") == 0;
}

/* SUB-10: a failing key holds back itself, all of it, and nothing else */
static void a_failing_key_holds_back_only_itself(void **state)
{
    struct env *e = *state;
    struct failing *f = calloc(1, sizeof *f);
    tl_worker *w;

    *f = (struct failing){.key = "k2", .verdict = TL_RETRY};
    publish_keyed(e, EVENTS);
    w = failing_worker(e, f, TL_ORDERING_KEY, TL_ON_FAILURE_BLOCK_KEY, 10, 3600 * 1000000ull);
    drive_one(w, are_waiting, e);
    assert_int_equal(f->seen.count, EVENTS - 12 + 1);
    assert_int_equal(stats_of(w).deferred, 11);
    assert_int_equal(stats_of(w).retried, 1);
    assert_int_equal(number(e, "select max(attempt) from trunkline.retries"), 1);
    assert_int_equal(number(e, "select count(*) from trunkline.retries where attempt = 0"), 11);
    tl_worker_free(w);
    free(f);
}

/* SUB-10: retry lets them overtake */
static void later_events_overtake_with_retry(void **state)
{
    struct env *e = *state;
    struct failing *f = calloc(1, sizeof *f);
    tl_worker *w;

    *f = (struct failing){.key = "k2", .verdict = TL_RETRY};
    publish_keyed(e, EVENTS);
    w = failing_worker(e, f, TL_ORDERING_KEY, TL_ON_FAILURE_RETRY, 10, 3600 * 1000000ull);
    drive_one(w, are_waiting, e);
    assert_int_equal(f->seen.count, EVENTS);
    assert_int_equal(stats_of(w).deferred, 0);
    tl_worker_free(w);
    free(f);
}

/* RET-4: one that failed for good leaves the key at once */
static void a_rejected_event_does_not_block(void **state)
{
    struct env *e = *state;
    struct failing *f = calloc(1, sizeof *f);
    tl_worker *w;

    *f = (struct failing){.key = "k2", .verdict = TL_FAIL, .seen.until = EVENTS};
    publish_keyed(e, EVENTS);
    w = failing_worker(e, f, TL_ORDERING_KEY, TL_ON_FAILURE_BLOCK_KEY, 10, 1000);
    drive_one(w, has_seen, &f->seen);
    drive_one(w, is_settled, e);
    assert_int_equal(f->seen.count, EVENTS);
    assert_int_equal(stats_of(w).deferred, 0);
    assert_int_equal(number(e, "select count(*) from trunkline.dead_letters"), 12);
    tl_worker_free(w);
    free(f);
}

static bool is_stopped(void *arg)
{
    struct env *e = arg;

    return number(e, "select count(*) from trunkline.subscriptions where not active "
                     "and pause_reason is not null") == 1 &&
           number(e, "select count(*) from trunkline.leases where held") == 0;
}

/* SUB-10: stop pauses at the event, by order of keys, of all, and without an order */
static void stop_pauses_at_the_event(void **state)
{
    static const tl_ordering orderings[] = {TL_ORDERING_KEY, TL_ORDERING_TOTAL, TL_ORDERING_NONE};
    static const tl_verdict verdicts[] = {TL_RETRY, TL_FAIL};
    struct env *e = *state;

    publish_keyed(e, EVENTS);
    for (int i = 0; i < 6; i++) {
        struct failing *f = calloc(1, sizeof *f);
        tl_worker *w;
        int of_key = 0;

        *f = (struct failing){.key = "k2", .verdict = verdicts[i % 2]};
        w = failing_worker(e, f, orderings[i / 2], TL_ON_FAILURE_STOP, 2, 1000);
        drive_one(w, is_stopped, e);
        for (int k = 0; k < f->seen.count; k++) {
            of_key += f->seen.positions[k] % KEYS == 2;
            assert_true(f->seen.positions[k] % KEYS != 2 || f->seen.positions[k] == 2);
            assert_true(orderings[i / 2] == TL_ORDERING_KEY || f->seen.positions[k] <= 2);
        }
        assert_int_equal(of_key, verdicts[i % 2] == TL_RETRY ? 2 : 1);
        assert_int_equal(number(e, "select count(*) from trunkline.dead_letters"), 0);
        tl_worker_free(w);
        test_db_exec(e->admin, "select trunkline.unsubscribe('m/h', true)");
        free(f);
    }
}

/* ------------------------------------------------------------------------ settings change -- */

struct turns {
    char order[4000];
    int count;
    int until;
};

struct turn_of {
    struct turns *turns;
    char name;
};

static tl_verdict take_turn(tl_delivery *d, void *userdata)
{
    struct turn_of *t = userdata;

    (void)d;
    assert_true(t->turns->count < (int)sizeof t->turns->order);
    t->turns->order[t->turns->count++] = t->name;
    return TL_DONE;
}

static bool has_turns(void *arg)
{
    struct turns *t = arg;

    return t->count >= t->until;
}

/* Rounds of events for two subscriptions, until b comes first. */
static void a_change_of_priority_reaches_a_running_worker(void **state)
{
    struct env *e = *state;
    struct turns *turns = calloc(1, sizeof *turns);
    struct turn_of a = {turns, 'a'}, b = {turns, 'b'};
    tl_subscribe_options options = subscribe_options(TL_ORDERING_KEY);
    uint64_t give_up_us;
    tl_router *r = new_router();
    tl_worker *w;

    assert_int_equal(
        tl_router_on(r, "**", take_turn, &a, TL_ROUTE_OPTIONS(.name = "a", .subscribe = options)),
        TL_OK);
    assert_int_equal(
        tl_router_on(r, "**", take_turn, &b, TL_ROUTE_OPTIONS(.name = "b", .subscribe = options)),
        TL_OK);
    w = new_worker(e->client, r, NULL);
    tl_router_free(r);
    publish(e, "x", "", 1);
    turns->until = 2;
    drive_one(w, has_turns, turns);
    assert_memory_equal(turns->order, "ab", 2); /* by name */
    options.priority = 9;
    assert_int_equal(tl_subscribe(e->client, "m/b", "**", &options), TL_OK);
    give_up_us = clock_us() + DEADLINE_US;
    do {
        assert_true(clock_us() < give_up_us);
        turns->count = 0;
        publish(e, "x", "", 1);
        drive_one(w, has_turns, turns);
    } while (memcmp(turns->order, "ba", 2) != 0);
    tl_worker_free(w);
    free(turns);
}

struct pairs {
    int64_t failed;    /* position of the odd one whose first attempt failed */
    int completed;     /* of the round */
    bool is_overtaken; /* in this round */
};

/* The first of two fails once. */
static tl_verdict fail_first_once(tl_delivery *d, void *userdata)
{
    struct pairs *p = userdata;
    bool is_first = number_of(d) == 1;

    if (is_first && tl_delivery_attempt(d) == 1) {
        p->failed = tl_event_position(tl_delivery_event(d));
        return TL_RETRY;
    }
    if (!is_first && p->completed == 0)
        p->is_overtaken = true;
    p->completed++;
    return TL_DONE;
}

static bool is_pair_done(void *arg)
{
    struct pairs *p = arg;

    return p->completed == 2;
}

static bool runs_overtaken(struct env *e, tl_worker *w, struct pairs *p)
{
    *p = (struct pairs){0};
    publish(e, "x", "k", 2);
    drive_one(w, is_pair_done, p);
    return p->is_overtaken;
}

static void a_change_of_on_failure_reaches_a_running_worker(void **state)
{
    struct env *e = *state;
    struct pairs p = {0};
    tl_subscribe_options options = subscribe_options(TL_ORDERING_KEY);
    uint64_t give_up_us;
    tl_router *r = new_router();
    tl_worker *w;

    options.on_failure = TL_ON_FAILURE_RETRY;
    assert_int_equal(tl_router_on(r, "**", fail_first_once, &p,
                                  TL_ROUTE_OPTIONS(.name = "h", .subscribe = options)),
                     TL_OK);
    w = new_worker(e->client, r, NULL);
    tl_router_free(r);
    assert_true(runs_overtaken(e, w, &p));
    options.on_failure = TL_ON_FAILURE_BLOCK_KEY;
    assert_int_equal(tl_subscribe(e->client, "m/h", "**", &options), TL_OK);
    give_up_us = clock_us() + DEADLINE_US;
    while (runs_overtaken(e, w, &p))
        assert_true(clock_us() < give_up_us);
    options.on_failure = TL_ON_FAILURE_RETRY;
    assert_int_equal(tl_subscribe(e->client, "m/h", "**", &options), TL_OK);
    give_up_us = clock_us() + DEADLINE_US;
    while (!runs_overtaken(e, w, &p))
        assert_true(clock_us() < give_up_us);
    tl_worker_free(w);
}

struct parallel {
    tl_delivery *held[2];
    int count;
    uint64_t until_us;
};

static tl_verdict hold_two(tl_delivery *d, void *userdata)
{
    struct parallel *p = userdata;

    assert_true(p->count < 2);
    p->held[p->count++] = d;
    return TL_PENDING;
}

static bool has_one_for_a_while(void *arg)
{
    struct parallel *p = arg;

    return p->count == 2 || (p->count == 1 && clock_us() >= p->until_us);
}

/* Two events of two keys: how many run at once? */
static int run_two(struct env *e, tl_worker *w, struct parallel *p)
{
    int at_once;

    p->count = 0;
    p->until_us = clock_us() + SECOND_US / 5;
    test_db_exec(e->admin, "insert into trunkline.topic_bus (type, data, key) "
                           "values ('x', '{}', 'k1'), ('x', '{}', 'k2')");
    drive_one(w, has_one_for_a_while, p);
    at_once = p->count;
    for (int done = 0; done < 2; done++) {
        while (p->count == 0)
            drive_one(w, has_one_for_a_while, p);
        p->count--;
        tl_delivery_complete(p->held[p->count], TL_DONE);
        if (done == 0 && p->count == 0) {
            p->until_us = 0;
            drive_one(w, has_one_for_a_while, p);
        }
    }
    drive_one(w, is_settled, e);
    return at_once;
}

static void a_change_of_ordering_reaches_a_running_worker(void **state)
{
    struct env *e = *state;
    struct parallel p = {.count = 0};
    tl_subscribe_options options = subscribe_options(TL_ORDERING_KEY);
    tl_worker *w = simple_worker(e->client, hold_two, &p, TL_ORDERING_KEY, false, NULL);
    uint64_t give_up_us;

    assert_int_equal(run_two(e, w, &p), 2);
    options.ordering = TL_ORDERING_TOTAL;
    assert_int_equal(tl_subscribe(e->client, "m/h", "**", &options), TL_OK);
    give_up_us = clock_us() + DEADLINE_US;
    while (run_two(e, w, &p) != 1)
        assert_true(clock_us() < give_up_us);
    options.ordering = TL_ORDERING_KEY;
    assert_int_equal(tl_subscribe(e->client, "m/h", "**", &options), TL_OK);
    give_up_us = clock_us() + DEADLINE_US;
    while (run_two(e, w, &p) != 2)
        assert_true(clock_us() < give_up_us);
    tl_worker_free(w);
}

/* ---------------------------------------------------------------------------- stop, expiry -- */

static bool has_in_flight(void *arg)
{
    return stats_of(arg).in_flight == 1;
}

static bool is_ended(void *arg)
{
    return tl_worker_process(arg) == TL_NOTHING;
}

/* WRK-2: what was deferred goes back with the rest, and another goes on in order */
static void stop_hands_back_what_waits(void **state)
{
    struct env *e = *state;
    struct parallel p = {.count = 0};
    struct failing *f = calloc(1, sizeof *f);
    tl_worker *w = simple_worker(e->client, hold_two, &p, TL_ORDERING_KEY, false,
                                 TL_WORKER_OPTIONS(.concurrency = 1));
    uint64_t began_us;

    publish(e, "x", "k", 6);
    publish(e, "x", "other", 3);
    drive_one(w, has_in_flight, w);
    tl_worker_stop(w);
    assert_int_equal(tl_worker_process(w), TL_OK);
    tl_delivery_complete(p.held[0], TL_RETRY);
    began_us = clock_us();
    while (!is_ended(w))
        assert_true(clock_us() < began_us + DEADLINE_US);
    assert_int_equal(stats_of(w).deferred, 5);
    tl_worker_free(w);
    assert_int_equal(number(e, "select count(*) from trunkline.leases where held"), 0);
    assert_int_equal(number(e, "select count(*) from trunkline.retries where key = 'k'"), 6);
    f->seen.until = 9;
    w = failing_worker(e, f, TL_ORDERING_KEY, TL_ON_FAILURE_BLOCK_KEY, 3, 1000);
    drive_one(w, has_seen, &f->seen);
    drive_one(w, is_settled, e);
    assert_int_equal(f->seen.count, 9);
    for (int i = 0, last = 0; i < 9; i++) {
        if (f->seen.positions[i] > 6)
            continue;
        assert_int_equal(f->seen.positions[i], last + 1);
        assert_int_equal(f->seen.attempts[i], last == 0 ? 2 : 1);
        last++;
    }
    tl_worker_free(w);
    free(f);
}

static bool has_expired_one(void *arg)
{
    return stats_of(arg).expired >= 1;
}

/* IDM, CLN: an expired event is no delivery but a dead letter, for every kind of handler */
static void expired_events_are_not_delivered(void **state)
{
    struct env *e = *state;

    for (int is_transactional = 0; is_transactional < 2; is_transactional++) {
        struct failing *f = calloc(1, sizeof *f);
        tl_worker *w;

        f->seen.until = 2 + is_transactional * 2; /* from the beginning */
        test_db_exec(e->admin,
                     "insert into trunkline.topic_bus (type, data, key, expires_at) values "
                     "('x', '{}', 'k', null), ('x', '{}', 'k', clock_timestamp() + interval '50 "
                     "ms'), ('x', '{}', 'k', clock_timestamp() + interval '1 h')");
        while (number(e, "select count(*) from trunkline.topic_bus where expires_at <= "
                         "clock_timestamp()") <= is_transactional) {
        }
        w = simple_worker(e->client, fail_key, f, TL_ORDERING_KEY, is_transactional != 0, NULL);
        drive_one(w, has_expired_one, w);
        drive_one(w, has_seen, &f->seen);
        drive_one(w, is_settled, e);
        assert_int_equal(f->seen.count, 2 + is_transactional * 2);
        assert_int_equal(stats_of(w).delivered, f->seen.count);
        assert_int_equal(stats_of(w).failed, 0);
        tl_worker_free(w);
        free(f);
        assert_int_equal(
            number(e, "select count(*) from trunkline.dead_letters where reason = 'expired'"),
            1 + is_transactional);
        test_db_exec(e->admin, "select trunkline.unsubscribe('m/h', true)");
        test_db_exec(e->admin, "truncate trunkline.dead_letters");
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, env_setup, env_teardown)
    const struct CMUnitTest tests[] = {
        TEST(keys_keep_their_order_for_every_prefetch),
        TEST(keys_keep_their_order_in_transactions),
        TEST(total_order_waits_for_what_failed),
        TEST(a_failing_key_holds_back_only_itself),
        TEST(later_events_overtake_with_retry),
        TEST(a_rejected_event_does_not_block),
        TEST(stop_pauses_at_the_event),
        TEST(a_change_of_priority_reaches_a_running_worker),
        TEST(a_change_of_on_failure_reaches_a_running_worker),
        TEST(a_change_of_ordering_reaches_a_running_worker),
        TEST(stop_hands_back_what_waits),
        TEST(expired_events_are_not_delivered),
    };

    return cmocka_run_group_tests_name("worker_order", tests, NULL, NULL);
}
