/*
 * worker_bell.c: waking up. The fallback poll is set beyond every deadline, so that each of these
 * passes by the doorbell or not at all: WAK-1, WAK-3, WAK-4, WAK-7, WAK-9.
 */
#include "worker_env.h"

#include <pthread.h>
#include <unistd.h>

static tl_verdict see_it(tl_delivery *d, void *userdata)
{
    see(userdata, d);
    return TL_DONE;
}

static tl_worker *bell_worker(tl_client *c, const char *name, const char *pattern, struct seen *s,
                              const tl_worker_options *options)
{
    tl_router *r = new_router();
    tl_worker *w;

    assert_int_equal(tl_router_on(r, pattern, see_it, s,
                                  TL_ROUTE_OPTIONS(.name = name, .subscribe = subscribe_options(
                                                                     TL_ORDERING_KEY))),
                     TL_OK);
    w = new_worker(c, r, options);
    tl_router_free(r);
    return w;
}

static bool is_armed(void *arg)
{
    return is_bell_armed(arg);
}

static bool is_sentinel(void *arg)
{
    return stats_of(arg).is_sentinel;
}

static bool is_listening(void *arg)
{
    return stats_of(arg).is_listening;
}

static bool is_past(void *arg)
{
    return clock_us() > *(uint64_t *)arg;
}

/* WAK-1: the sentinel sleeps; an INSERT by somebody who knows nothing of us wakes it */
static void an_insert_wakes_the_sleeping_sentinel(void **state)
{
    struct env *e = *state;
    struct seen s = {0};
    tl_worker *w =
        bell_worker(e->client, "h", "**", &s, TL_WORKER_OPTIONS(.poll_interval_us = NO_POLL_US));

    /* A bell that is just being disarmed looks armed, and the sentinel finds that event by itself: as
     * many rounds as it takes to be rung up five times. */
    for (int i = 1; stats_of(w).wakes < 5; i++) {
        assert_true(i < 1000);
        drive_one(w, is_armed, e);
        /* asleep: nothing to do before the poll but election, probe and the like */
        publish(e, "a", "", 1);
        s.until = i;
        drive_one(w, has_seen, &s);
    }
    assert_true(stats_of(w).is_sentinel);
    assert_true(stats_of(w).is_listening);
    tl_worker_free(w);
}

/* Nothing is as cheap as the ring of an event that comes on its own: nobody stays awake for it. */
static void few_events_leave_the_bell_armed(void **state)
{
    struct env *e = *state;
    struct seen s = {0};
    tl_worker *w =
        bell_worker(e->client, "h", "**", &s, TL_WORKER_OPTIONS(.poll_interval_us = NO_POLL_US));
    uint64_t polls, claims;

    drive_one(w, is_armed, e);
    publish(e, "a", "", 1);
    s.until = 1;
    drive_one(w, has_seen, &s);
    drive_one(w, is_armed, e);
    polls = stats_of(w).polls;
    claims = stats_of(w).claims;
    for (int i = 2; i <= 21; i++) {
        uint64_t until_us = clock_us() + 20000;

        publish(e, "a", "", 1);
        s.until = i;
        drive_one(w, has_seen, &s);
        drive_one(w, is_past, &until_us);
        assert_true(is_bell_armed(e));
    }
    /* A look for each, since it is claimed before that; a claim by a look, and one behind it, would be 40, and
     * awake more than 100. */
    assert_true(stats_of(w).polls <= polls + 20 + 10);
    assert_int_equal(stats_of(w).claims, claims + 20);
    tl_worker_free(w);
}

/* An idle worker costs next to nothing: it sleeps. */
static void an_idle_worker_sleeps(void **state)
{
    struct env *e = *state;
    struct seen s = {0};
    tl_worker *w =
        bell_worker(e->client, "h", "**", &s, TL_WORKER_OPTIONS(.poll_interval_us = NO_POLL_US));
    uint64_t polls;
    uint64_t until_us;

    drive_one(w, is_armed, e);
    polls = stats_of(w).polls;
    until_us = clock_us() + SECOND_US;
    drive_one(w, is_past, &until_us);
    assert_true(stats_of(w).polls <= polls + 2);
    tl_worker_free(w);
}

struct pair {
    struct env *e;
    tl_client *other;
    tl_worker *workers[2];
    struct seen seen[2];
};

/* Two workers on two subscriptions; [0] is the sentinel. */
static void open_pair(struct pair *p, struct env *e)
{
    const tl_worker_options *options = TL_WORKER_OPTIONS(.poll_interval_us = NO_POLL_US);

    *p = (struct pair){.e = e, .other = open_client(e->conninfo)};
    p->workers[0] = bell_worker(e->client, "a", "a", &p->seen[0], options);
    drive_one(p->workers[0], is_sentinel, p->workers[0]);
    p->workers[1] = bell_worker(p->other, "b", "b", &p->seen[1], options);
    drive(p->workers, 2, is_listening, p->workers[1]);
    assert_true(stats_of(p->workers[0]).is_sentinel);
    assert_false(stats_of(p->workers[1]).is_sentinel);
}

static void close_pair(struct pair *p)
{
    tl_worker_free(p->workers[0]);
    tl_worker_free(p->workers[1]);
    tl_client_close(p->other);
}

struct parking {
    struct env *e;
    PGconn *parked;
};

/* As a publisher in an open transaction: the bell cannot be armed beside it. Tried, not waited for:
 * a sentinel that sleeps is rung up for it, and may be asleep again before we are there. */
static bool has_parked(void *arg)
{
    struct parking *p = arg;
    PGresult *res = test_db_query(
        p->parked, "select pg_try_advisory_xact_lock_shared(trunkline.lock_class(), 0)");
    bool is_locked = PQgetvalue(res, 0, 0)[0] == 't';

    PQclear(res);
    if (!is_locked) /* so many that it disarms */
        publish(p->e, "c", "", 16);
    return is_locked;
}

static bool is_arming(void *arg)
{
    return number(arg, "select count(*) from pg_locks where locktype = 'advisory' "
                       "and objid = 42 and not granted and database = (select oid from "
                       "pg_database where datname = current_database())") > 0;
}

/* WAK-1: who commits between the sentinel's last look and its arming does not ring: so it looks
 * after it. Here arming takes its time. */
static void the_sentinel_looks_once_more_when_armed(void **state)
{
    struct env *e = *state;
    PGconn *publisher = test_db_connect(e->conninfo);
    struct seen s = {.until = 1};
    tl_worker *w;

    test_db_exec(e->admin, "create or replace function trunkline.bell_arm() returns boolean "
                           "language sql as 'select pg_advisory_lock(42), pg_advisory_unlock(42); "
                           "select pg_try_advisory_lock(trunkline.lock_class(), 0)'");
    test_db_exec(publisher, "select pg_advisory_lock(42)");
    w = simple_worker(e->client, see_it, &s, TL_ORDERING_KEY, false,
                      TL_WORKER_OPTIONS(.poll_interval_us = NO_POLL_US));
    drive_one(w, is_arming, e);
    publish(e, "a", "", 1);
    test_db_exec(publisher, "select pg_advisory_unlock(42)");
    drive_one(w, has_seen, &s);
    tl_worker_free(w);
    PQfinish(publisher);
}

/* WAK-1: a publisher that sees an awake sentinel does not ring; the sentinel tells the others */
static void the_sentinel_wakes_the_others(void **state)
{
    struct env *e = *state;
    PGconn *parked = test_db_connect(e->conninfo);
    struct parking parking = {e, parked};
    struct pair p;

    open_pair(&p, e);
    for (int i = 1; i <= 3; i++) {
        drive(p.workers, 2, is_armed, e);
        publish(e, "b", "", 1); /* rings */
        p.seen[1].until = 2 * i - 1;
        drive(p.workers, 2, has_seen, &p.seen[1]);
        test_db_exec(parked, "begin");
        drive(p.workers, 2, has_parked, &parking);
        assert_false(is_bell_armed(e));
        publish(e, "b", "", 1); /* does not */
        p.seen[1].until = 2 * i;
        drive(p.workers, 2, has_seen, &p.seen[1]);
        test_db_exec(parked, "commit");
    }
    close_pair(&p);
    PQfinish(parked);
}

/* WAK-4: the sentinel dies; another takes over within the second, and wakes up for events */
static void another_takes_over_when_the_sentinel_dies(void **state)
{
    struct env *e = *state;
    struct pair p;

    open_pair(&p, e);
    drive(p.workers, 2, is_armed, e);
    assert_int_equal(number(e, "select count(pg_terminate_backend(pid)) from pg_locks "
                               "where locktype = 'advisory' and objid = 1 and objsubid = 2 "
                               "and mode = 'ExclusiveLock' and database = (select oid from "
                               "pg_database where datname = current_database())"),
                     1);
    drive(&p.workers[1], 1, is_sentinel, p.workers[1]);
    drive(&p.workers[1], 1, is_armed, e);
    publish(e, "b", "", 1);
    p.seen[1].until = 1;
    drive(&p.workers[1], 1, has_seen, &p.seen[1]);
    /* the first one comes back, as a listener, and misses nothing */
    publish(e, "a", "", 1);
    p.seen[0].until = 1;
    drive(p.workers, 2, has_seen, &p.seen[0]);
    assert_false(stats_of(p.workers[0]).is_sentinel);
    close_pair(&p);
}

/* A sentinel that stops hands its duty on without waiting for an election. */
static void a_stopping_sentinel_hands_over(void **state)
{
    struct env *e = *state;
    struct pair p;

    open_pair(&p, e);
    tl_worker_stop(p.workers[0]);
    assert_int_equal(tl_worker_run(p.workers[0]), TL_OK);
    p.workers[0] = tl_worker_free(p.workers[0]);
    drive(p.workers, 2, is_sentinel, p.workers[1]);
    publish(e, "b", "", 1);
    p.seen[1].until = 1;
    drive(p.workers, 2, has_seen, &p.seen[1]);
    close_pair(&p);
}

/* WAK-3, WAK-9: no notifications at all */
static void without_notifications_it_polls(void **state)
{
    struct env *e = *state;
    struct seen s = {.until = 3};
    tl_worker *w = bell_worker(e->client, "h", "**", &s,
                               TL_WORKER_OPTIONS(.no_listen = true, .poll_interval_us = 200000));

    publish(e, "a", "", 2);
    publish(e, "a", "", 1);
    drive_one(w, has_seen, &s);
    publish(e, "a", "", 1);
    s.until = 4;
    drive_one(w, has_seen, &s);
    assert_false(stats_of(w).is_listening);
    assert_false(stats_of(w).is_sentinel);
    assert_int_equal(number(e, "select count(*) from pg_locks where locktype = 'advisory' "
                               "and objsubid = 2 and objid in (0, 1, 2) and database = (select oid "
                               "from pg_database where datname = current_database())"),
                     0);
    tl_worker_free(w);
}

struct probe {
    tl_worker *w;
    bool is_deaf_logged;
};

static void watch_log(tl_log_level level, const char *message, void *userdata)
{
    struct probe *p = userdata;

    (void)level;
    if (strstr(message, "notifications do not arrive") != NULL)
        p->is_deaf_logged = true;
}

static bool is_deaf_logged(void *arg)
{
    return ((struct probe *)arg)->is_deaf_logged;
}

/* WAK-9: LISTEN is accepted and nothing arrives (as behind a pooling proxy): found out by the probe,
 * said once, and polled. The notification is lost by UNLISTEN behind the worker's back. */
static void lost_notifications_are_found_out(void **state)
{
    struct env *e = *state;
    struct probe p = {0};
    struct seen s = {.until = 1};
    tl_client *c = NULL;

    assert_int_equal(
        tl_client_open(e->conninfo, TL_CLIENT_OPTIONS(.log = watch_log, .log_userdata = &p), &c),
        TL_OK);
    /* the probe goes to another channel than the one that is listened to */
    test_db_exec(e->admin,
                 "create sequence trunkline.deaf; "
                 "create or replace function trunkline.channel() returns text language sql "
                 "volatile as $$ select 'x' || nextval('trunkline.deaf') $$");
    p.w = bell_worker(c, "h", "**", &s, TL_WORKER_OPTIONS(.poll_interval_us = SECOND_US));
    drive_one(p.w, is_deaf_logged, &p);
    assert_false(stats_of(p.w).is_listening);
    assert_false(stats_of(p.w).is_sentinel);
    publish(e, "a", "", 1);
    drive_one(p.w, has_seen, &s);
    tl_worker_free(p.w);
    tl_client_close(c);
}

/* ------------------------------------------------------------------- tl_client_wait -- */

static void *publish_when_armed(void *arg)
{
    struct env *e = arg;

    for (int i = 0; i < 24000 && !is_bell_armed(e); i++)
        usleep(5000);
    publish(e, "a", "", 1);
    return NULL;
}

static void *wake_client(void *arg)
{
    tl_client_wake(arg);
    return NULL;
}

static void read_all(tl_client *c, int64_t *after, int *count)
{
    tl_batch *b = NULL;

    for (;;) {
        tl_status status = tl_read(c, TL_READ_OPTIONS(.after = *after), &b);

        assert_true(status >= 0);
        *after = tl_batch_upto(b);
        *count += (int)tl_batch_count(b);
        b = tl_batch_free(b);
        if (status == TL_NOTHING)
            return;
    }
}

/* WAK-1, WAK-7: read, wait, read: nothing is missed, wherever the event falls */
static void a_client_waits_for_events(void **state)
{
    struct env *e = *state;
    pthread_t thread;
    int64_t after = 0;
    int count = 0;

    publish(e, "a", "", 1); /* before the first wait */
    assert_int_equal(tl_client_wait(e->client, DEADLINE_US), TL_OK);
    read_all(e->client, &after, &count);
    assert_int_equal(count, 1);
    assert_int_equal(tl_client_wait(e->client, 100000), TL_E_TIMEOUT);
    publish(e, "a", "", 1); /* between two waits */
    assert_int_equal(tl_client_wait(e->client, DEADLINE_US), TL_OK);
    read_all(e->client, &after, &count);
    assert_int_equal(count, 2);
    /* while it sleeps with the bell armed */
    assert_int_equal(pthread_create(&thread, NULL, publish_when_armed, e), 0);
    assert_int_equal(tl_client_wait(e->client, DEADLINE_US), TL_OK);
    pthread_join(thread, NULL);
    read_all(e->client, &after, &count);
    assert_int_equal(count, 3);
    /* it is not the sentinel while it does something else */
    assert_int_equal(tl_client_wait(e->client, 300000), TL_E_TIMEOUT);
    for (int i = 0; i < 24000 && is_bell_armed(e); i++)
        usleep(5000);
    assert_false(is_bell_armed(e));
    assert_int_equal(pthread_create(&thread, NULL, wake_client, e->client), 0);
    assert_int_equal(tl_client_wait(e->client, UINT64_MAX), TL_E_CANCELLED);
    pthread_join(thread, NULL);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, env_setup, env_teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_insert_wakes_the_sleeping_sentinel),
        TEST(few_events_leave_the_bell_armed),
        TEST(an_idle_worker_sleeps),
        TEST(the_sentinel_looks_once_more_when_armed),
        TEST(the_sentinel_wakes_the_others),
        TEST(another_takes_over_when_the_sentinel_dies),
        TEST(a_stopping_sentinel_hands_over),
        TEST(without_notifications_it_polls),
        TEST(lost_notifications_are_found_out),
        TEST(a_client_waits_for_events),
    };

    return cmocka_run_group_tests_name("worker_bell", tests, NULL, NULL);
}
