/*
 * worker_wake.c: what a lease leaves behind when it ends, after everybody has looked and gone to
 * sleep: WAK-1, WAK-3, RET-1. The fallback poll is beyond every deadline, and so is the lease.
 */
#include "worker_env.h"

#define HOUR_US 3600000000u

struct held {
    struct env *e;
    tl_worker *w;
    tl_delivery *d;
    struct seen seen;
    int still; /* so often in a row it was asleep, or waited for an answer */
};

/* The first one stays in hand. */
static tl_verdict hold_first(tl_delivery *d, void *userdata)
{
    struct held *h = userdata;

    see(&h->seen, d);
    if (h->seen.count > 1)
        return TL_DONE;
    h->d = d;
    return TL_PENDING;
}

static bool is_asleep(void *arg)
{
    struct held *h = arg;

    h->still = is_bell_armed(h->e) && tl_worker_deadline_us(h->w) > clock_us() + 2 * SECOND_US
                   ? h->still + 1
                   : 0;
    return h->still >= 10;
}

static void let_sleep(struct held *h)
{
    h->still = 0;
    drive_one(h->w, is_asleep, h);
}

static tl_worker *worker_on(struct held *h, tl_handler_fn fn, bool transactional)
{
    tl_worker *w = NULL;

    assert_int_equal(
        tl_worker_new(h->e->client, NULL, NULL,
                      TL_WORKER_OPTIONS(.poll_interval_us = NO_POLL_US, .lease_us = HOUR_US), &w),
        TL_OK);
    assert_int_equal(
        tl_worker_handle(w, "s", fn, h, TL_HANDLE_OPTIONS(.transactional = transactional)), TL_OK);
    return w;
}

static void open_held(struct held *h, struct env *e, const char *options)
{
    char sql[256];

    *h = (struct held){.e = e};
    snprintf(sql, sizeof sql, "select trunkline.subscribe('s', '**', retry_delay => '1 ms', %s)",
             options);
    test_db_exec(e->admin, sql);
    h->w = worker_on(h, hold_first, false);
    h->seen.until = 1;
    let_sleep(h);
    publish(e, "a", "k", 1);
    drive_one(h->w, has_seen, &h->seen);
    let_sleep(h);
}

static void close_held(struct held *h)
{
    h->seen.until = 2;
    drive_one(h->w, has_seen, &h->seen);
    assert_int_equal(h->seen.count, 2);
    tl_worker_free(h->w);
}

static void assert_retried(struct env *e, const char *options)
{
    struct held h;

    open_held(&h, e, options);
    tl_delivery_complete(h.d, TL_RETRY);
    close_held(&h);
    assert_int_equal(h.seen.positions[0], h.seen.positions[1]);
    assert_int_equal(h.seen.attempts[1], 2);
}

static void what_fails_in_flight_is_tried_again(void **state)
{
    assert_retried(*state, "ordering => 'key'");
}

static void what_fails_without_an_order_is_tried_again(void **state)
{
    assert_retried(*state, "ordering => 'none'");
}

static void what_fails_beside_other_slots_is_tried_again(void **state)
{
    assert_retried(*state, "slots => 4");
}

static void assert_next_comes(struct env *e, const char *options)
{
    struct held h;

    open_held(&h, e, options);
    publish(e, "a", "k", 1);
    let_sleep(&h);
    assert_int_equal(h.seen.count, 1);
    tl_delivery_complete(h.d, TL_DONE);
    close_held(&h);
    assert_true(h.seen.positions[0] < h.seen.positions[1]);
}

static void what_waits_for_a_lease_comes_behind_it(void **state)
{
    assert_next_comes(*state, "ordering => 'key'");
}

static void what_waits_for_a_slot_comes_behind_it(void **state)
{
    assert_next_comes(*state, "slots => 4");
}

/* What the worker asked before it ran the handler is answered: nothing in this database runs but us. */
static void let_answer(struct env *e)
{
    uint64_t give_up_us = clock_us() + 120 * SECOND_US;

    while (number(e, "select count(*) from pg_stat_activity where datname = current_database() and "
                     "state = 'active' and pid <> pg_backend_pid()") > 0)
        assert_true(clock_us() < give_up_us);
}

/* The second one settles it, in its transaction, when it is known that nothing falls due. */
static tl_verdict fail_then_settle(tl_delivery *d, void *userdata)
{
    struct held *h = userdata;

    see(&h->seen, d);
    let_answer(h->e);
    return h->seen.count == 1 ? TL_RETRY : TL_DONE;
}

/* WRK-5 */
static void what_a_transaction_settles_as_failed_is_tried_again(void **state)
{
    struct held h = {.e = *state};

    test_db_exec(
        h.e->admin,
        "select trunkline.subscribe('s', '**', retry_delay => '1 ms', ordering => 'none')");
    h.w = worker_on(&h, fail_then_settle, true);
    let_sleep(&h);
    publish(h.e, "a", "k", 2);
    h.seen.until = 3;
    drive_one(h.w, has_seen, &h.seen);
    assert_int_equal(h.seen.positions[0], h.seen.positions[2]);
    tl_worker_free(h.w);
}

/* A second worker has the lease, the first has looked in vain, and then the second ends it as it goes. */
static void assert_woken_by(struct env *e, bool stops)
{
    struct held h = {.e = e};
    tl_worker *both[2];

    test_db_exec(e->admin, "select trunkline.subscribe('s', '**')");
    h.w = both[0] = worker_on(&h, hold_first, false);
    let_sleep(&h);
    both[1] = worker_on(&h, hold_first, false);
    h.still = 0;
    drive(both, 2, is_asleep, &h);
    publish(e, "a", "k", 1);
    h.seen.until = 1;
    drive_one(both[1], has_seen, &h.seen);
    publish(e, "a", "k", 1);
    h.still = 0;
    drive(both, 2, is_asleep, &h);
    if (stops)
        tl_worker_stop(both[1]);
    else
        assert_int_equal(tl_worker_forget(both[1], "s"), TL_OK);
    tl_delivery_complete(h.d, TL_DONE);
    if (stops) {
        drive_one(both[1], is_done, both[1]);
        both[1] = tl_worker_free(both[1]);
    }
    h.seen.until = 2;
    drive(both, 2, has_seen, &h.seen);
    assert_int_equal(h.seen.count, 2);
    tl_worker_free(both[1]);
    tl_worker_free(both[0]);
}

static void who_leaves_wakes_who_waits_for_its_lease(void **state)
{
    assert_woken_by(*state, true);
}

static void who_forgets_wakes_who_waits_for_its_lease(void **state)
{
    assert_woken_by(*state, false);
}

/* The same worker serves it again, beside what it had in flight. */
static void what_is_served_again_goes_on(void **state)
{
    struct held h;

    open_held(&h, *state, "ordering => 'key'");
    assert_int_equal(tl_worker_forget(h.w, "s"), TL_OK);
    assert_int_equal(tl_worker_handle(h.w, "s", hold_first, &h, NULL), TL_OK);
    publish(h.e, "a", "k", 1);
    let_sleep(&h);
    assert_int_equal(h.seen.count, 1);
    tl_delivery_complete(h.d, TL_DONE);
    close_held(&h);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, env_setup, env_teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_fails_in_flight_is_tried_again),
        TEST(what_fails_without_an_order_is_tried_again),
        TEST(what_fails_beside_other_slots_is_tried_again),
        TEST(what_waits_for_a_lease_comes_behind_it),
        TEST(what_waits_for_a_slot_comes_behind_it),
        TEST(what_a_transaction_settles_as_failed_is_tried_again),
        TEST(who_leaves_wakes_who_waits_for_its_lease),
        TEST(who_forgets_wakes_who_waits_for_its_lease),
        TEST(what_is_served_again_goes_on),
    };

    return cmocka_run_group_tests_name("worker_wake", tests, NULL, NULL);
}
