/*
 * worker_next.c: events that come one by one, claimed before anything is looked for, and what keeps
 * them from it: WAK-1, WRK-3, WRK-5. The fallback poll is beyond every deadline.
 */
#include "worker_env.h"

static bool is_armed(void *arg)
{
    return is_bell_armed(arg);
}

static tl_verdict see_it(tl_delivery *d, void *userdata)
{
    see(userdata, d);
    return TL_DONE;
}

struct lone {
    struct env *e;
    tl_worker *w;
    struct seen seen;
    uint64_t polls;
};

static bool is_settled(void *arg)
{
    return number(((struct lone *)arg)->e, "select count(*) from trunkline.leases") == 0;
}

static bool has_looked(void *arg)
{
    const struct lone *l = arg;

    return stats_of(l->w).polls > l->polls;
}

static bool is_past(void *arg)
{
    return clock_us() > *(uint64_t *)arg;
}

/* One event after the other, each from rest to rest, and none so soon that the bell is disarmed for it. Returns how many
 * looks that took. */
static int looks_of(struct lone *l, int events)
{
    uint64_t polls = stats_of(l->w).polls;

    for (int i = 0; i < events; i++) {
        uint64_t until_us = clock_us() + 20000;

        drive_one(l->w, is_past, &until_us);
        drive_one(l->w, is_armed, l->e);
        l->polls = stats_of(l->w).polls;
        publish(l->e, "a", "k", 1);
        l->seen.until++;
        drive_one(l->w, has_seen, &l->seen);
        drive_one(l->w, is_settled, l);
        drive_one(l->w, has_looked, l); /* as it does in any case */
    }
    return (int)(stats_of(l->w).polls - polls);
}

/* One look behind each event, where a claim by a look has one behind it as well. As often as it takes on a busy
 * machine, and until it is prepared. */
static void assert_claims_without_looks(struct lone *l)
{
    int looks = 20;

    for (int i = 0; i < 100 && looks > 12; i++)
        looks = looks_of(l, 10);
    assert_in_range(looks, 10, 12);
}

static void open_lone(struct lone *l, struct env *e, tl_handler_fn fn, bool transactional)
{
    *l = (struct lone){.e = e};
    l->w = simple_worker(e->client, fn, &l->seen, TL_ORDERING_KEY, transactional,
                         TL_WORKER_OPTIONS(.poll_interval_us = NO_POLL_US));
}

/* What was seen is the whole log, in order, each once. */
static void assert_all_seen(struct lone *l)
{
    char sql[128];

    assert_int_equal(number(l->e, "select count(*) from trunkline.topic_bus"), l->seen.count);
    for (int i = 0; i < l->seen.count; i++) {
        snprintf(sql, sizeof sql,
                 "select \"position\" from trunkline.topic_bus order by 1 offset %d limit 1", i);
        assert_int_equal(number(l->e, sql), l->seen.positions[i]);
        assert_int_equal(l->seen.attempts[i], 1);
    }
}

static void an_event_is_claimed_without_a_look(void **state)
{
    struct lone l;

    open_lone(&l, *state, see_it, false);
    assert_claims_without_looks(&l);
    assert_all_seen(&l);
    tl_worker_free(l.w);
}

static void gaps_are_looked_over(void **state)
{
    struct lone l;

    open_lone(&l, *state, see_it, false);
    assert_claims_without_looks(&l);
    for (int i = 0; i < 5; i++) {
        test_db_exec(l.e->admin, "select nextval('trunkline.position_bus')");
        (void)looks_of(&l, 2);
    }
    assert_claims_without_looks(&l);
    assert_all_seen(&l);
    tl_worker_free(l.w);
}

/* It was prepared for every event. */
static void a_changed_subscription_is_minded(void **state)
{
    struct lone l;

    open_lone(&l, *state, see_it, false);
    assert_claims_without_looks(&l);
    test_db_exec(l.e->admin, "update trunkline.subscriptions set pattern = 'a'");
    publish(l.e, "b", "", 1);
    (void)looks_of(&l, 3);
    publish(l.e, "b", "", 1);
    (void)looks_of(&l, 3);
    for (int i = 1; i < l.seen.count; i++)
        assert_true(l.seen.positions[i] > l.seen.positions[i - 1]);
    assert_int_equal(number(l.e, "select count(*) from trunkline.topic_bus where type = 'a'"),
                     l.seen.count);
    test_db_exec(l.e->admin, "update trunkline.subscriptions set pattern = '**'");
    assert_claims_without_looks(&l); /* prepared again */
    tl_worker_free(l.w);
}

/* As for a role that was given its rights before there was such a function. */
static void without_a_right_to_it_it_looks(void **state)
{
    struct lone l;

    open_lone(&l, *state, see_it, false);
    test_db_exec(l.e->admin,
                 "create or replace function trunkline.prepare_next("
                 "subscription_id bigint, \"position\" bigint, out after bigint, out upto bigint, "
                 "out epoch bigint) "
                 "language plpgsql as $$ begin raise insufficient_privilege; end $$");
    (void)looks_of(&l, 20);
    assert_all_seen(&l);
    assert_int_equal(stats_of(l.w).reconnects, 0);
    tl_worker_free(l.w);
}

static tl_verdict note(tl_delivery *d, void *userdata)
{
    char sql[128];

    see(userdata, d);
    snprintf(sql, sizeof sql, "insert into noted values (%lld)",
             (long long)tl_event_position(tl_delivery_event(d)));
    return tl_tx_exec(tl_delivery_tx(d), sql, 0, NULL, NULL) == TL_OK ? TL_DONE : TL_FAIL;
}

/* WRK-5 */
static void in_the_transaction_of_its_handler(void **state)
{
    struct lone l;

    test_db_exec(((struct env *)*state)->admin, "create table noted (position bigint)");
    open_lone(&l, *state, note, true);
    assert_claims_without_looks(&l);
    assert_all_seen(&l);
    assert_int_equal(number(l.e, "select count(*) from noted"), l.seen.count);
    assert_int_equal(number(l.e, "select count(distinct position) from noted"), l.seen.count);
    assert_int_equal(number(l.e, "select count(*) from trunkline.leases"), 0);
    tl_worker_free(l.w);
}

static tl_verdict fail_once(tl_delivery *d, void *userdata)
{
    if (tl_delivery_attempt(d) == 1)
        return TL_RETRY;
    see(userdata, d);
    return TL_DONE;
}

/* The next event of its key waits for the one that failed. */
static void what_failed_comes_first(void **state)
{
    struct lone l;

    open_lone(&l, *state, fail_once, false);
    for (int i = 0; i < 10; i++) {
        publish(l.e, "a", "k", 1);
        publish(l.e, "a", "k", 1);
        l.seen.until += 2;
        drive_one(l.w, has_seen, &l.seen);
    }
    for (int i = 1; i < l.seen.count; i++)
        assert_true(l.seen.positions[i] > l.seen.positions[i - 1]);
    assert_int_equal(l.seen.count, 20);
    tl_worker_free(l.w);
}

static bool fails;

static tl_verdict fail_first(tl_delivery *d, void *userdata)
{
    if (fails && strcmp(tl_event_type(tl_delivery_event(d)), "bad") == 0) {
        tl_delivery_set_retry_after(d, 3600000000u);
        return TL_RETRY;
    }
    see(userdata, d);
    return TL_DONE;
}

static bool is_parked_or_seen(void *arg)
{
    const struct lone *l = arg;

    return l->seen.count > l->seen.until ||
           number(l->e, "select count(*) from trunkline.retries where token is null") == 2;
}

static bool has_failed(void *arg)
{
    return number(arg, "select count(*) from trunkline.retries where token is null") == 1;
}

/* Nothing has come for as long as it takes that the next event is claimed without a look. */
static void rest(struct lone *l)
{
    uint64_t until_us = clock_us() + 20000;

    drive_one(l->w, is_past, &until_us);
    drive_one(l->w, is_armed, l->e);
}

/* An event that was claimed so and failed leaves something behind that others wait for. */
static void what_waits_is_not_overtaken(void **state)
{
    struct lone l;

    open_lone(&l, *state, fail_first, false);
    for (int i = 0; i < 3; i++) {
        assert_claims_without_looks(&l);
        fails = true;
        rest(&l);
        publish(l.e, "bad", "k", 1);
        drive_one(l.w, has_failed, l.e);
        rest(&l);
        publish(l.e, "a", "k", 1);
        drive_one(l.w, is_parked_or_seen, &l);
        assert_int_equal(l.seen.count, l.seen.until);
        fails = false;
        test_db_exec(l.e->admin,
                     "update trunkline.retries set next_attempt_at = now() where \"position\" "
                     "= (select min(\"position\") from trunkline.retries)");
        test_db_exec(l.e->admin, "select trunkline.wake_listeners()");
        l.seen.until += 2;
        drive_one(l.w, has_seen, &l.seen);
        for (int j = 1; j < l.seen.count; j++)
            assert_true(l.seen.positions[j] > l.seen.positions[j - 1]);
    }
    assert_claims_without_looks(&l);
    tl_worker_free(l.w);
}

/* Held up by a lock of ours, so that its answer comes when we want. */
static bool is_claiming(void *arg)
{
    return number(arg, "select count(*) from pg_stat_activity where wait_event_type = 'Lock' "
                       "and query like 'PREPARE trunkline_next_%'") == 1;
}

static bool is_held_up(void *arg)
{
    return number(arg, "select count(*) from pg_stat_activity where wait_event_type = 'Lock' "
                       "and datname = current_database()") == 1;
}

/* Publishes until the statement is on its way to an event, which it gets when `locker` commits. */
static void claim_held_up(struct lone *l, PGconn *locker)
{
    bool is_next = false;

    for (int i = 0; i < 100 && !is_next; i++) {
        assert_claims_without_looks(l);
        drive_one(l->w, is_armed, l->e);
        test_db_exec(locker, "begin; lock table trunkline.leases in exclusive mode");
        publish(l->e, "a", "k", 1);
        l->seen.until++;
        drive_one(l->w, is_held_up, l->e);
        is_next = is_claiming(l->e);
        if (!is_next) { /* a look on a busy machine */
            test_db_exec(locker, "rollback");
            drive_one(l->w, has_seen, &l->seen);
            drive_one(l->w, is_settled, l);
        }
    }
    assert_true(is_next);
}

static struct seen other;

static bool has_come(void *arg)
{
    return has_seen(arg) || other.count > other.until;
}

/* WRK-3: one that is served from now on comes first, and gets nothing of the other. */
static void what_is_served_meanwhile_is_another(void **state)
{
    struct lone l;
    PGconn *locker;

    open_lone(&l, *state, see_it, false);
    locker = test_db_connect(l.e->conninfo);
    test_db_exec(l.e->admin, "select trunkline.subscribe('a/first', 'other', priority => 10)");
    claim_held_up(&l, locker);
    assert_int_equal(tl_worker_handle(l.w, "a/first", see_it, &other, NULL), TL_OK);
    test_db_exec(locker, "commit");
    drive_one(l.w, has_come, &l.seen);
    assert_int_equal(other.count, 0);
    drive_one(l.w, is_settled, &l);
    assert_all_seen(&l);
    publish(l.e, "other", "k", 1);
    other.until = 1;
    drive_one(l.w, has_seen, &other);
    l.seen.until++;
    drive_one(l.w, has_seen, &l.seen);
    assert_int_equal(other.count, 1);
    PQfinish(locker);
    tl_worker_free(l.w);
}

/* Nor is what was forgotten meanwhile lost: who serves it now has it. */
static void what_is_forgotten_meanwhile_is_not_lost(void **state)
{
    struct lone l;
    PGconn *locker;

    open_lone(&l, *state, see_it, false);
    locker = test_db_connect(l.e->conninfo);
    claim_held_up(&l, locker);
    assert_int_equal(tl_worker_forget(l.w, "m/h"), TL_OK);
    assert_int_equal(tl_worker_handle(l.w, "m/h", see_it, &l.seen, NULL), TL_OK);
    test_db_exec(locker, "commit");
    drive_one(l.w, has_seen, &l.seen);
    drive_one(l.w, is_settled, &l);
    assert_all_seen(&l);
    assert_claims_without_looks(&l);
    PQfinish(locker);
    tl_worker_free(l.w);
}

struct crash {
    struct lone lone;
    PGconn *holder;
    bool dies;
};

static tl_verdict die_once(tl_delivery *d, void *userdata)
{
    struct crash *c = userdata;
    struct pg_result *res = NULL;

    if (c->dies) {
        c->dies = false;
        assert_int_equal(tl_tx_exec(tl_delivery_tx(d),
                                    "select pg_terminate_backend(pg_backend_pid())", 0, NULL, &res),
                         TL_E_CONNECTION);
        return TL_DONE;
    }
    see(&c->lone.seen, d);
    return TL_DONE;
}

/* The lease was given back, and is held by us before it is claimed again; or that came first. */
static bool is_held_or_seen(void *arg)
{
    struct crash *c = arg;

    test_db_exec(c->holder, "begin");
    if (query_number(c->holder,
                     "select count(*) from (select from trunkline.leases where attempt = "
                     "1 and until < now() + interval '1 s' for update skip locked) q") > 0)
        return true;
    test_db_exec(c->holder, "rollback");
    return has_seen(&c->lone.seen);
}

/* Its handler's connection is gone, but not that which claims. */
static void what_was_given_back_is_not_overtaken(void **state)
{
    struct crash c = {0};
    struct lone *l = &c.lone;

    l->e = *state;
    c.holder = test_db_connect(l->e->conninfo);
    l->w = simple_worker(l->e->client, die_once, &c, TL_ORDERING_KEY, true,
                         TL_WORKER_OPTIONS(.poll_interval_us = NO_POLL_US));
    for (int i = 0; i < 3; i++) {
        assert_claims_without_looks(l);
        c.dies = true;
        publish(l->e, "a", "k", 1);
        l->seen.until++;
        drive_one(l->w, is_held_or_seen, &c);
        for (int j = 0; j < 5; j++) { /* it looks for the lease as well, without being rung up */
            drive_one(l->w, is_armed, l->e);
            l->polls = stats_of(l->w).polls;
            publish(l->e, "a", "k", 1);
            l->seen.until++;
            drive_one(l->w, has_looked, l);
        }
        test_db_exec(c.holder, "rollback");
        test_db_exec(l->e->admin, "select trunkline.wake_listeners()");
        drive_one(l->w, has_seen, &l->seen);
    }
    for (int i = 1; i < l->seen.count; i++)
        assert_true(l->seen.positions[i] > l->seen.positions[i - 1]);
    tl_worker_free(l->w);
    PQfinish(c.holder);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, env_setup, env_teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_event_is_claimed_without_a_look),
        TEST(gaps_are_looked_over),
        TEST(a_changed_subscription_is_minded),
        TEST(without_a_right_to_it_it_looks),
        TEST(in_the_transaction_of_its_handler),
        TEST(what_failed_comes_first),
        TEST(what_waits_is_not_overtaken),
        TEST(what_is_served_meanwhile_is_another),
        TEST(what_is_forgotten_meanwhile_is_not_lost),
        TEST(what_was_given_back_is_not_overtaken),
    };

    return cmocka_run_group_tests_name("worker_next", tests, NULL, NULL);
}
