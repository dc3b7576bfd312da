/*
 * worker_ahead.c: a worker claims a second lease of an ordered slot while it works on the first: what
 * of it may start, and what becomes of it when the first fails, is lost or handed back (SUB-10,
 * WRK-3, WRK-4).
 */
#include "worker_env.h"

enum { BATCH = 4, MOST = 64 };

/* Holds every delivery, by its position; those of a key start in order, none beside another. */
struct hall {
    struct env *e;
    tl_delivery *held[MOST];
    int64_t last[UINT8_MAX + 1]; /* that started, of a key by its letter */
    bool has_started[MOST];
    uint32_t attempts[MOST];
    int started;
    int wanted; /* for has_started */
};

static tl_verdict hold(tl_delivery *d, void *userdata)
{
    struct hall *h = userdata;
    const tl_event *event = tl_delivery_event(d);
    int64_t at = tl_event_position(event);
    int64_t *last = &h->last[(uint8_t)tl_event_key(event)[0]];

    assert_true(at < MOST);
    for (int i = 0; i < MOST; i++) {
        assert_true(h->held[i] == NULL ||
                    strcmp(tl_event_key(tl_delivery_event(h->held[i])), tl_event_key(event)) != 0);
    }
    assert_true(*last < at);
    *last = at;
    h->held[at] = d;
    h->has_started[at] = true;
    h->attempts[at] = tl_delivery_attempt(d);
    h->started++;
    return TL_PENDING;
}

static void complete(struct hall *h, int position, tl_verdict verdict)
{
    tl_delivery *d = h->held[position];

    assert_non_null(d);
    h->held[position] = NULL;
    tl_delivery_complete(d, verdict);
}

static void complete_all(struct hall *h)
{
    for (int i = 0; i < MOST; i++) {
        if (h->held[i] != NULL)
            complete(h, i, TL_DONE);
    }
}

static bool has_started(void *arg)
{
    const struct hall *h = arg;

    return h->started >= h->wanted;
}

static void drive_until_started(tl_worker *w, struct hall *h, int count)
{
    h->wanted = count;
    drive_one(w, has_started, h);
}

/* Events with these keys, one letter each. */
static void publish_keys(struct env *e, const char *keys)
{
    char sql[256];

    snprintf(sql, sizeof sql,
             "insert into trunkline.topic_bus (type, data, key) "
             "select 'a', '1', k from string_to_table('%s', null) with ordinality as x(k, n) "
             "order by n",
             keys);
    test_db_exec(e->admin, sql);
}

static tl_worker *hall_worker(struct env *e, struct hall *h, uint32_t max_attempts)
{
    tl_subscribe_options options = subscribe_options(TL_ORDERING_KEY);
    tl_router *r = new_router();
    tl_worker *w;

    h->e = e;
    options.max_attempts = max_attempts;
    options.retry_delay_us = options.retry_cap_us = 3600 * 1000000ull;
    assert_int_equal(
        tl_router_on(r, "**", hold, h, TL_ROUTE_OPTIONS(.name = "h", .subscribe = options)), TL_OK);
    w = new_worker(
        e->client, r,
        TL_WORKER_OPTIONS(.claim_batch = BATCH, .concurrency = 50, .lease_us = 3600 * 1000000ull));
    tl_router_free(r);
    return w;
}

static bool is_settled(void *arg)
{
    struct hall *h = arg;

    complete_all(h);
    return number(h->e, "select (select count(*) from trunkline.leases) + (select behind from "
                        "trunkline.subscription_status where name = 'm/h')") == 0;
}

/* SUB-10, WRK-3: other keys go on at once, those of the first wait. Never more than two leases. */
static void work_goes_on_behind_the_first(void **state)
{
    struct env *e = *state;
    struct hall *h = calloc(1, sizeof *h);
    tl_worker *w;

    publish_keys(e, "abcdaebfghij");
    w = hall_worker(e, h, 10);
    drive_until_started(w, h, 6);
    for (int i = 1; i <= 8; i++)
        assert_int_equal(h->has_started[i], i != 5 && i != 7);
    assert_int_equal(number(e, "select count(*) from trunkline.leases"), 2);
    complete(h, 2, TL_DONE);
    drive_until_started(w, h, 7);
    assert_true(h->has_started[7]);
    assert_false(h->has_started[5]);
    complete(h, 8, TL_DONE); /* of the second: it is settled after the first */
    complete(h, 1, TL_DONE);
    drive_until_started(w, h, 8);
    assert_true(h->has_started[5]);
    assert_int_equal(number(e, "select max(upto) from trunkline.leases"), 8);
    complete(h, 3, TL_DONE);
    complete(h, 4, TL_DONE); /* the first ends: one more behind the second */
    drive_until_started(w, h, 12);
    assert_int_equal(number(e, "select min(after) from trunkline.leases"), 4);
    assert_int_equal(number(e, "select count(*) from trunkline.leases"), 2);
    drive_one(w, is_settled, h);
    assert_int_equal(h->started, 12);
    assert_int_equal(stats_of(w).done, 12);
    tl_worker_free(w);
    free(h);
}

static bool has_ended(void *arg)
{
    struct hall *h = arg;

    return number(h->e, "select count(*) from trunkline.leases") == 0;
}

/* SUB-10: a key that failed in the first does not start in the second; it waits in the database. */
static void a_failure_in_the_first_defers_the_second(void **state)
{
    struct env *e = *state;
    struct hall *h = calloc(1, sizeof *h);
    tl_worker *w;

    publish_keys(e, "abcdaebf");
    w = hall_worker(e, h, 10);
    drive_until_started(w, h, 6);
    complete(h, 1, TL_RETRY);
    complete(h, 2, TL_DONE);
    drive_until_started(w, h, 7);
    complete_all(h);
    drive_one(w, has_ended, h);
    assert_int_equal(h->started, 7);
    assert_false(h->has_started[5]);
    assert_int_equal(stats_of(w).deferred, 1);
    assert_int_equal(number(e, "select count(*) from trunkline.retries where \"position\" = 1 "
                               "and attempt = 1 and next_attempt_at < 'infinity'"),
                     1);
    assert_int_equal(number(e, "select count(*) from trunkline.retries where \"position\" = 5 "
                               "and attempt = 0 and next_attempt_at = 'infinity'"),
                     1);
    assert_int_equal(number(e, "select count(*) from trunkline.retries"), 2);
    tl_worker_free(w);
    free(h);
}

/* Stop the worker, completing what starts yet. */
static void stop(tl_worker *w, struct hall *h)
{
    uint64_t give_up_us = clock_us() + DEADLINE_US;

    tl_worker_stop(w);
    while (tl_worker_process(w) != TL_NOTHING) {
        complete_all(h);
        assert_true(clock_us() < give_up_us);
    }
    tl_worker_free(w);
}

/* WRK-4: who loses the first drops the second, and starts nothing more of it. */
static void with_the_first_the_second_is_lost(void **state)
{
    struct env *e = *state;
    struct hall *h = calloc(1, sizeof *h);
    tl_worker *w;

    publish_keys(e, "abcdaebf");
    w = hall_worker(e, h, 10);
    drive_until_started(w, h, 6);
    /* the server would fence both; here the second's token stays good, so the worker has to know */
    test_db_exec(e->admin, "update trunkline.leases set token = gen_random_uuid(), held = false "
                           "where after = 0");
    for (int i = 1; i <= 4; i++)
        complete(h, i, TL_DONE);
    stop(w, h);
    assert_int_equal(number(e, "select count(*) from trunkline.leases where after = 4 and held "
                               "and events = 4"),
                     1); /* not settled, although it was done */
    free(h);
}

/* WRK-8: on the way out both are handed back but for what has started, and are taken up in order. */
static void a_worker_that_stops_hands_both_back(void **state)
{
    struct env *e = *state;
    struct hall *h = calloc(1, sizeof *h);
    tl_worker *w;

    publish_keys(e, "baaacaaa");
    w = hall_worker(e, h, 10);
    drive_until_started(w, h, 3); /* 1, 2, 5 */
    assert_int_equal(number(e, "select count(*) from trunkline.leases where held"), 2);
    stop(w, h);
    assert_int_equal(h->started, 3);
    assert_int_equal(number(e, "select count(*) from trunkline.leases where held"), 0);
    assert_int_equal(number(e, "select events from trunkline.leases where upto = 4"), 2);
    assert_int_equal(number(e, "select events from trunkline.leases where upto = 8"), 3);
    memset(h, 0, sizeof *h);
    w = hall_worker(e, h, 10);
    drive_one(w, is_settled, h);
    for (int i = 1; i <= 8; i++) {
        assert_int_equal(h->has_started[i], i == 3 || i == 4 || i >= 6);
        assert_true(!h->has_started[i] || h->attempts[i] == 1);
    }
    assert_int_equal(h->started, 5);
    tl_worker_free(w);
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(work_goes_on_behind_the_first, env_setup, env_teardown),
        cmocka_unit_test_setup_teardown(a_failure_in_the_first_defers_the_second, env_setup,
                                        env_teardown),
        cmocka_unit_test_setup_teardown(with_the_first_the_second_is_lost, env_setup, env_teardown),
        cmocka_unit_test_setup_teardown(a_worker_that_stops_hands_both_back, env_setup,
                                        env_teardown),
    };

    return cmocka_run_group_tests_name("worker_ahead", tests, NULL, NULL);
}
