/*
 * live_loop.c: live subscriptions in the loop of a program: what wakes it, how long it runs, how much it takes
 * at a time (WAK-1, WAK-3, WAK-4, WAK-7). Who gets what is in live.c.
 */
#include "live_env.h"

#include <pthread.h>

#define ALL "select position from trunkline.topic_store"

static bool is_asleep(void *arg)
{
    return is_bell_armed(arg);
}

/* WAK-1: an append by somebody who knows nothing of us wakes the sleeping client */
static void an_append_wakes_it(void **state)
{
    struct env *e = *state;
    static struct seen s;
    tl_live_stats stats;

    memset(&s, 0, sizeof s);
    all(e, NULL, &s);
    for (int i = 1; i <= 3; i++) {
        run_until(e->c, is_asleep, e->admin);
        store(e->admin, "a-1", "x", 1);
        run_until_seen(e->c, &s, i);
    }
    tl_client_get_live_stats(e->c, &stats);
    assert_true(stats.is_connected && stats.is_listening && stats.is_sentinel);
}

/* WAK-3: without notifications it polls, in the interval of the client's options */
static void without_listen_it_polls(void **state)
{
    struct env *e = *state;
    static struct seen s;
    tl_client *c = NULL;
    tl_live_stats stats;
    uint64_t give_up_us;
    tl_live *live;

    memset(&s, 0, sizeof s);
    assert_status(c,
                  tl_client_open(e->conninfo,
                                 TL_CLIENT_OPTIONS(.no_listen = true, .poll_interval_us = 100000),
                                 &c),
                  TL_OK);
    assert_status(c, tl_subscribe_all(c, NULL, see, &s, &live), TL_OK);
    run_until(c, is_caught_up, live);
    for (int i = 1; i <= 3; i++) {
        store(e->admin, "a-1", "x", 1);
        run_until_seen(c, &s, i);
    }
    /* it naps longer and longer, up to 100 ms; an answer has longer than the default of 1 s */
    give_up_us = clock_us() + DEADLINE_US;
    do {
        uint64_t now_us = clock_us();
        uint64_t until_us = tl_client_deadline_us(c);

        assert_true(until_us <= now_us + 100000 || until_us > now_us + 2 * SECOND_US);
        assert_true(turn(c) >= 0);
        assert_true(now_us < give_up_us);
        tl_client_get_live_stats(c, &stats);
    } while (stats.feed_reads < 20);
    assert_false(stats.is_listening);
    assert_int_equal(query_number(e->admin,
                                  "select count(*) from pg_locks where locktype = 'advisory' "
                                  "and database = (select oid from pg_database where datname = "
                                  "current_database())"),
                     0);
    tl_client_close(c);
}

static void allow_connections(struct env *e, const char *yes)
{
    char text[500];
    PGconn *elsewhere;

    (void)snprintf(text, sizeof text, "%s dbname=postgres", e->conninfo);
    elsewhere = test_db_connect(text);
    (void)snprintf(text, sizeof text, "alter database \"%s\" allow_connections %s", PQdb(e->admin),
                   yes);
    test_db_exec(elsewhere, text);
    PQfinish(elsewhere);
}

/* WAK-4: a server that stays away ends them when the client's attempts are used up */
static void a_server_that_stays_away_ends_them(void **state)
{
    struct env *e = *state;
    static struct script s;
    tl_client *c = NULL;
    tl_live *live;
    tl_status status;

    memset(&s, 0, sizeof s);
    assert_status(
        c,
        tl_client_open(e->conninfo,
                       TL_CLIENT_OPTIONS(.application_name = "leaving", .reconnect_attempts = 2,
                                         .reconnect_base_us = 10000),
                       &c),
        TL_OK);
    assert_status(c, tl_subscribe_all(c, TL_LIVE_OPTIONS(.ended = note_end), play, &s, &live),
                  TL_OK);
    run_until(c, is_caught_up, live);
    allow_connections(e, "false");
    test_db_exec(e->admin, "select pg_terminate_backend(pid) from pg_stat_activity where "
                           "application_name = 'leaving'");
    while ((status = turn(c)) == TL_OK) {
    }
    assert_int_equal(status, TL_E_CONNECTION);
    assert_int_equal(tl_live_status(live), TL_E_CONNECTION);
    assert_int_equal(s.ended_status, TL_E_CONNECTION);
    assert_int_equal(tl_client_fd(c), -1);
    assert_status(c, tl_client_process(c), TL_NOTHING);
    allow_connections(e, "true");
    tl_client_close(c);
}

static void *ring(void *arg)
{
    struct timespec pause = {.tv_nsec = 50000000};

    (void)nanosleep(&pause, NULL);
    tl_client_wake(arg);
    return NULL;
}

/* WAK-7 */
static void running_ends_by_time_and_by_wake(void **state)
{
    struct env *e = *state;
    static struct script s;
    pthread_t thread;
    tl_live *live;

    memset(&s, 0, sizeof s);
    s.fail_at = 2;
    assert_status(e->c, tl_subscribe_all(e->c, NULL, play, &s, &live), TL_OK);
    store(e->admin, "a-1", "x", 1);
    for (uint64_t give_up_us = clock_us() + DEADLINE_US; s.seen.count == 0;) {
        assert_true(clock_us() < give_up_us);
        assert_status(e->c, tl_client_run(e->c, 300000), TL_E_TIMEOUT);
    }
    assert_int_equal(s.seen.count, 1);
    assert_int_equal(pthread_create(&thread, NULL, ring, e->c), 0);
    assert_status(e->c, tl_client_run(e->c, DEADLINE_US), TL_E_CANCELLED);
    pthread_join(thread, NULL);
    store(e->admin, "a-1", "x", 1);
    assert_status(e->c, tl_client_run(e->c, DEADLINE_US), TL_NOTHING);
    assert_int_equal(tl_live_status(live), -77);
}

static int see_slowly(tl_live *live, const tl_event *e, void *userdata)
{
    struct timespec pause = {.tv_nsec = 4000000};

    (void)nanosleep(&pause, NULL);
    return see(live, e, userdata);
}

/* WAK-7: a page of slow handlers does not keep the caller's loop waiting for all of it */
static void slow_handlers_run_in_slices(void **state)
{
    struct env *e = *state;
    static struct seen s;
    tl_live *live;
    int most = 0;

    memset(&s, 0, sizeof s);
    store(e->admin, "a-1", "x", 30);
    assert_status(e->c, tl_subscribe_all(e->c, NULL, see_slowly, &s, &live), TL_OK);
    while (s.count < 30) {
        int before = s.count;

        assert_status(e->c, turn(e->c), TL_OK);
        most = s.count - before > most ? s.count - before : most;
    }
    assert_in_range(most, 1, 4);
    assert_saw(e->admin, &s, ALL " order by 1");
}

/* Pages are bounded in bytes as well: one never has all of a log of large events in memory. */
static void pages_of_large_events_are_short(void **state)
{
    struct env *e = *state;
    static struct seen s[2];
    tl_live_stats stats;

    memset(s, 0, sizeof s);
    test_db_exec(
        e->admin,
        "select from generate_series(1, 20) i, lateral trunkline.append_event('big-1', 'x', "
        "to_jsonb((select string_agg(md5(j::text || i), '') from generate_series(1, 25000) "
        "j)))");
    stream(e, "big-1", NULL, &s[0]);
    all(e, NULL, &s[1]);
    run_until_seen(e->c, &s[0], 20);
    run_until_seen(e->c, &s[1], 20);
    tl_client_get_live_stats(e->c, &stats);
    assert_in_range(stats.page_reads, 8, 14); /* of 6 or 7 events */
    assert_saw(e->admin, &s[0], ALL " order by 1");
    assert_saw(e->admin, &s[1], ALL " order by 1");
}

static void batch_is_obeyed(void **state)
{
    struct env *e = *state;
    static struct seen s;
    tl_live_stats before, after;
    tl_live *live;

    memset(&s, 0, sizeof s);
    store(e->admin, "a-1", "x", 100);
    live = all(e, TL_LIVE_OPTIONS(.batch = 10), &s);
    run_until(e->c, is_caught_up, live);
    run_until(e->c, is_asleep, e->admin);
    tl_client_get_live_stats(e->c, &before);
    assert_in_range(before.page_reads, 10, 11);
    store(e->admin, "a-1", "x", 100);
    run_until_seen(e->c, &s, 200);
    tl_client_get_live_stats(e->c, &after);
    assert_true(after.feed_reads - before.feed_reads >= 10);
}

#define test(name) cmocka_unit_test_setup_teardown(name, env_setup, env_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(an_append_wakes_it),
        test(without_listen_it_polls),
        test(a_server_that_stays_away_ends_them),
        test(running_ends_by_time_and_by_wake),
        test(slow_handlers_run_in_slices),
        test(pages_of_large_events_are_short),
        test(batch_is_obeyed),
    };

    return cmocka_run_group_tests_name("live_loop", tests, NULL, NULL);
}
