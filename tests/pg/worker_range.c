/*
 * Leases of ranges, whose events the worker reads itself, and ahead of their claim.
 */
#include "worker_env.h"

#include <inttypes.h>

#define EVENTS 2400
#define EACH (-1)

/* Which positions came how often, in which order of each key. */
struct ledger {
    int count;
    int until;
    int disorders;
    int64_t last;
    uint8_t times[2 * EVENTS + 2];
    void (*at)(struct ledger *); /* when `count` is `at_count`, or at each */
    int at_count;
    struct env *env;
    int ranges;         /* count_range(): leases without events that it worked for */
    int64_t range_upto; /* the end of the last */
};

/* The end of the lease without events that this one is handled under; 0: of another. */
static int64_t range_upto(struct env *e, int64_t position)
{
    char sql[160];

    snprintf(sql, sizeof sql,
             "select coalesce(max(upto), 0) from trunkline.leases where held and events is null "
             "and after < %" PRId64 " and upto >= %" PRId64,
             position, position);
    return number(e, sql);
}

static void count_range(struct ledger *g)
{
    if (g->last <= g->range_upto)
        return;
    g->range_upto = range_upto(g->env, g->last);
    g->ranges += g->range_upto != 0;
}

static tl_verdict enter(tl_delivery *d, void *userdata)
{
    struct ledger *g = userdata;
    int64_t position = tl_event_position(tl_delivery_event(d));

    assert_in_range(position, 1, 2 * EVENTS + 1);
    g->disorders += position <= g->last;
    g->last = position;
    g->times[position]++;
    if (++g->count == g->at_count || (g->at != NULL && g->at_count == EACH))
        g->at(g);
    return TL_DONE;
}

static bool is_full(void *arg)
{
    const struct ledger *g = arg;

    return g->count >= g->until;
}

static bool has_settled(void *arg)
{
    struct env *e = arg;

    return number(e, "select count(*) from trunkline.leases") == 0;
}

/* A backlog of n events with keys. */
static void backlog(struct env *e, int n)
{
    char sql[256];

    snprintf(
        sql, sizeof sql,
        "insert into trunkline.topic_bus (type, data, key) "
        "select 'a.b', jsonb_build_object('n', i), 'k' || i %% 7 from generate_series(1, %d) i",
        n);
    test_db_exec(e->admin, sql);
}

static void assert_each_once(const struct ledger *g, int64_t first, int64_t last)
{
    for (int64_t p = first; p <= last; p++)
        assert_int_equal(g->times[p], 1);
}

/* WRK-3, SUB-10 */
static void a_backlog_comes_in_order_and_once(void **state)
{
    static const tl_ordering orderings[] = {TL_ORDERING_KEY, TL_ORDERING_TOTAL, TL_ORDERING_NONE};
    struct env *e = *state;

    backlog(e, EVENTS);
    for (size_t i = 0; i < sizeof orderings / sizeof orderings[0]; i++) {
        struct ledger g = {.until = EVENTS, .at = count_range, .at_count = EACH, .env = e};
        tl_worker *w = simple_worker(e->client, enter, &g, orderings[i], false, NULL);

        drive_one(w, is_full, &g);
        drive_one(w, has_settled, e);
        assert_int_equal(g.count, EVENTS);
        if (orderings[i] != TL_ORDERING_NONE)
            assert_int_equal(g.disorders, 0);
        assert_each_once(&g, 1, EVENTS);
        /* by claims that grow: not one for each hundred */
        assert_in_range(stats_of(w).claims, 1, EVENTS / 150);
        assert_true(g.ranges > 0);
        tl_worker_free(w);
        test_db_exec(e->admin, "select trunkline.unsubscribe('m/h', true)");
    }
}

struct foresight {
    struct env *e;
    int64_t upto;    /* of the range at work; 0: none */
    int64_t changed; /* this event was another when the range before it ended */
    bool is_proved;  /* it came as it had been */
};

/* All that the worker has sent is answered, or would be if it read on. */
static bool is_answered(struct env *e)
{
    return number(e, "select count(*) from pg_stat_activity where datname = current_database() and "
                     "backend_type = 'client backend' and pid <> pg_backend_pid() and "
                     "state <> 'idle' and wait_event is distinct from 'ClientWrite'") == 0;
}

/* At the end of a range the event behind it is changed, which no one can but behind the back of the
 * log's guard: if it comes as it was, it had been read. */
static tl_verdict foresee(tl_delivery *d, void *userdata)
{
    struct foresight *f = userdata;
    int64_t position = tl_event_position(tl_delivery_event(d));
    uint64_t give_up_us = clock_us() + DEADLINE_US;
    char sql[200];

    if (position == f->changed &&
        strcmp(tl_event_data(tl_delivery_event(d), NULL), "\"changed\"") != 0)
        f->is_proved = true;
    if (position > f->upto)
        f->upto = range_upto(f->e, position);
    if (position != f->upto)
        return TL_DONE;
    while (!is_answered(f->e))
        assert_true(clock_us() < give_up_us);
    snprintf(sql, sizeof sql,
             "with c as (update trunkline.topic_bus set data = '\"changed\"' "
             "where \"position\" = %" PRId64 " returning 1) select count(*) from c",
             position + 1);
    test_db_exec(f->e->admin, "set session_replication_role = replica");
    f->changed = number(f->e, sql) == 1 ? position + 1 : 0;
    test_db_exec(f->e->admin, "reset session_replication_role");
    return TL_DONE;
}

/* Nothing is read ahead, or used, where the machine is too slow for it: then more is to be done. */
static bool is_proved(void *arg)
{
    const struct foresight *f = arg;

    if (!f->is_proved && number(f->e, "select sum(behind) from trunkline.subscription_status") == 0)
        backlog(f->e, EVENTS);
    return f->is_proved;
}

static void the_next_range_is_read_ahead(void **state)
{
    struct env *e = *state;
    struct foresight f = {.e = e};
    tl_worker *w;

    backlog(e, EVENTS);
    w = simple_worker(e->client, foresee, &f, TL_ORDERING_KEY, false, NULL);
    drive_one(w, is_proved, &f);
    tl_worker_free(w);
}

/* What was published meanwhile is found behind what was read ahead; gaps are passed over. */
static void publish_more(struct ledger *g)
{
    test_db_exec(g->env->admin, "begin");
    backlog(g->env, 300);
    test_db_exec(g->env->admin, "rollback");
    backlog(g->env, EVENTS / 2);
}

/* WRK-3 */
static void events_that_come_meanwhile_and_gaps(void **state)
{
    struct env *e = *state;
    struct ledger g = {
        .until = EVENTS + EVENTS / 2, .at = publish_more, .at_count = 1500, .env = e};
    tl_worker *w;

    backlog(e, EVENTS);
    w = simple_worker(e->client, enter, &g, TL_ORDERING_KEY, false, NULL);
    drive_one(w, is_full, &g);
    drive_one(w, has_settled, e);
    assert_int_equal(g.disorders, 0);
    assert_each_once(&g, 1, EVENTS);
    assert_each_once(&g, EVENTS + 301, EVENTS + 300 + EVENTS / 2);
    tl_worker_free(w);
}

static void reset_back(struct ledger *g)
{
    test_db_exec(g->env->admin, "select trunkline.reset('m/h', '0')");
}

static bool has_come_again(void *arg)
{
    const struct ledger *g = arg;

    return g->last == EVENTS && g->times[1] == 2 && has_settled(g->env);
}

/* SUB-10: what was read ahead is not what is claimed next: it is read again from there. */
static void a_reset_is_obeyed(void **state)
{
    struct env *e = *state;
    struct ledger g = {.at = reset_back, .at_count = 1500, .env = e};
    tl_worker *w;

    backlog(e, EVENTS);
    w = simple_worker(e->client, enter, &g, TL_ORDERING_KEY, false, NULL);
    drive_one(w, has_come_again, &g);
    for (int64_t p = 1; p <= EVENTS; p++)
        assert_in_range(g.times[p], p <= 1500 ? 2 : 1, 2);
    tl_worker_free(w);
}

static void cut(struct ledger *g)
{
    test_db_exec(g->env->admin,
                 "select pg_terminate_backend(pid) from pg_stat_activity where datname = "
                 "current_database() and backend_type = 'client backend' and pid <> "
                 "pg_backend_pid()");
}

static bool has_seen_all(void *arg)
{
    const struct ledger *g = arg;

    for (int64_t p = 1; p <= EVENTS; p++) {
        if (g->times[p] == 0)
            return false;
    }
    return true;
}

/* WRK-4: a lease that was claimed and not read, because the connection went away, is read on the next one. */
static void a_cut_connection_loses_nothing(void **state)
{
    struct env *e = *state;
    struct ledger g = {.at = cut, .at_count = 1500, .env = e};
    tl_worker *w;

    backlog(e, EVENTS);
    /* a claim whose answer was lost comes again when its lease is over */
    w = simple_worker(e->client, enter, &g, TL_ORDERING_KEY, false,
                      TL_WORKER_OPTIONS(.claim_batch = 300, .lease_us = 5 * SECOND_US));
    drive_one(w, has_seen_all, &g);
    assert_true(stats_of(w).reconnects > 0);
    tl_worker_free(w);
}

/* WRK-4 */
static void two_workers_never_get_the_same(void **state)
{
    struct env *e = *state;
    struct ledger g = {.until = EVENTS};
    tl_client *second = open_client(e->conninfo);
    tl_worker *workers[2];

    backlog(e, EVENTS);
    workers[0] = simple_worker(e->client, enter, &g, TL_ORDERING_NONE, false,
                               TL_WORKER_OPTIONS(.claim_batch = 300));
    workers[1] = simple_worker(second, enter, &g, TL_ORDERING_NONE, false,
                               TL_WORKER_OPTIONS(.claim_batch = 300));
    drive(workers, 2, is_full, &g);
    drive(workers, 2, has_settled, e);
    assert_int_equal(g.count, EVENTS);
    assert_each_once(&g, 1, EVENTS);
    tl_worker_free(workers[0]);
    tl_worker_free(workers[1]);
    tl_client_close(second);
}

/* An expired event is not handled but becomes a dead letter, also in the middle of a range. */
static void expired_events_are_not_delivered(void **state)
{
    struct env *e = *state;
    struct ledger g = {.until = EVENTS / 2};
    tl_worker *w;
    char sql[256];

    snprintf(sql, sizeof sql,
             "insert into trunkline.topic_bus (type, data, expires_at) select 'a', '1', case when "
             "i %% 2 = 0 then now() - interval '1 s' end from generate_series(1, %d) i",
             EVENTS);
    test_db_exec(e->admin, sql);
    w = simple_worker(e->client, enter, &g, TL_ORDERING_NONE, false, NULL);
    drive_one(w, is_full, &g);
    drive_one(w, has_settled, e);
    assert_int_equal(g.count, EVENTS / 2);
    for (int64_t p = 1; p <= EVENTS; p++)
        assert_int_equal(g.times[p], p % 2);
    assert_int_equal(number(e, "select count(*) from trunkline.dead_letters where reason = "
                               "'expired'"),
                     EVENTS / 2);
    tl_worker_free(w);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, env_setup, env_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_backlog_comes_in_order_and_once),   TEST(the_next_range_is_read_ahead),
        TEST(events_that_come_meanwhile_and_gaps), TEST(a_reset_is_obeyed),
        TEST(a_cut_connection_loses_nothing),      TEST(two_workers_never_get_the_same),
        TEST(expired_events_are_not_delivered),
    };

    return cmocka_run_group_tests_name("worker_range", tests, NULL, NULL);
}
