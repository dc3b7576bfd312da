/*
 * worker_chaos.c: connections die at random while two workers share a stream of keyed events, with
 * handlers that stay in flight, fail and write in transactions: nothing is lost, no key runs twice
 * at once, effects happen once (SUB-10, WRK-4, WRK-7, WAK-4, RET-8).
 */
#include "worker_env.h"

enum { EVENTS = 1500, KEYS = 7 };

struct chaos {
    struct env *e;
    tl_worker *workers[2];
    unsigned seed;
    int handled[EVENTS + 1];
    bool is_key_busy[KEYS];
    tl_delivery *held[64];
    int held_count;
    int kills;
};

static unsigned random_below(struct chaos *c, unsigned n)
{
    c->seed = c->seed * 1103515245u + 12345u;
    return (c->seed >> 16) % n;
}

static int key_of(const tl_delivery *d)
{
    return tl_event_key(tl_delivery_event(d))[1] - '0';
}

static tl_verdict handle(tl_delivery *d, void *userdata)
{
    struct chaos *c = userdata;
    tl_verdict verdict = TL_DONE;

    assert_false(c->is_key_busy[key_of(d)]);
    if (random_below(c, 3) == 0 && c->held_count < 64) {
        c->is_key_busy[key_of(d)] = true;
        c->held[c->held_count++] = d;
        return TL_PENDING;
    }
    if (random_below(c, 20) == 0)
        verdict = TL_RETRY;
    else
        c->handled[tl_event_position(tl_delivery_event(d))]++;
    return verdict;
}

static tl_verdict write_effect(tl_delivery *d, void *userdata)
{
    struct chaos *c = userdata;
    char position[24];
    const char *values[] = {position};

    snprintf(position, sizeof position, "%lld", (long long)tl_event_position(tl_delivery_event(d)));
    if (tl_tx_exec(tl_delivery_tx(d), "insert into effects values ($1)", 1, values, NULL) != TL_OK)
        return TL_RETRY;
    return random_below(c, 20) == 0 ? TL_RETRY : TL_DONE;
}

static bool is_drained(struct chaos *c)
{
    return number(c->e, "select count(*) from trunkline.subscription_status where behind > 0 "
                        "or leased > 0 or retrying > 0") == 0;
}

/* One step of the world for each look at it. */
static bool step(void *arg)
{
    struct chaos *c = arg;

    if (c->held_count > 0 && random_below(c, 2) == 0) {
        int i = (int)random_below(c, (unsigned)c->held_count);
        tl_delivery *d = c->held[i];

        c->held[i] = c->held[--c->held_count];
        c->is_key_busy[key_of(d)] = false;
        c->handled[tl_event_position(tl_delivery_event(d))]++;
        tl_delivery_complete(d, TL_DONE);
    }
    if (c->kills < 25 && random_below(c, 30) == 0) {
        c->kills++;
        test_db_exec(c->e->admin,
                     "select pg_terminate_backend(pid) from pg_stat_activity where datname = "
                     "current_database() and pid <> pg_backend_pid() order by random() limit 1");
    }
    return c->kills >= 25 && c->held_count == 0 && is_drained(c);
}

static void run_chaos(struct env *e, tl_handler_fn fn, bool transactional, struct chaos *c)
{
    tl_client *clients[2] = {open_client(e->conninfo), open_client(e->conninfo)};
    tl_subscribe_options options = subscribe_options(TL_ORDERING_KEY);

    /* a claim whose answer is lost waits for its lease to end; nothing else may need that */
    options.max_attempts = 1000;
    test_db_exec(e->admin, "insert into trunkline.topic_bus (type, data, key) "
                           "select 'a', '{}', 'k' || i % 7 from generate_series(1, 1500) i");
    for (int i = 0; i < 2; i++) {
        tl_router *r = new_router();

        assert_int_equal(tl_router_on(r, "**", fn, c,
                                      TL_ROUTE_OPTIONS(.name = "h", .transactional = transactional,
                                                       .subscribe = options)),
                         TL_OK);
        c->workers[i] = new_worker(clients[i], r,
                                   TL_WORKER_OPTIONS(.claim_batch = 20, .lease_us = 5 * SECOND_US,
                                                     .poll_interval_us = 200000));
        tl_router_free(r);
    }
    drive(c->workers, 2, step, c);
    for (int i = 0; i < 2; i++) {
        tl_worker_stop(c->workers[i]);
        assert_int_equal(tl_worker_run(c->workers[i]), TL_OK);
        tl_worker_free(c->workers[i]);
        tl_client_close(clients[i]);
    }
    assert_int_equal(number(e, "select count(*) from trunkline.dead_letters"), 0);
    assert_int_equal(number(e, "select count(*) from trunkline.leases"), 0);
}

static void no_event_is_lost_and_no_key_runs_twice(void **state)
{
    struct env *e = *state;
    struct chaos *c = calloc(1, sizeof *c);

    *c = (struct chaos){.e = e, .seed = 7};
    run_chaos(e, handle, false, c);
    for (int i = 1; i <= EVENTS; i++)
        assert_true(c->handled[i] >= 1);
    free(c);
}

static void effects_happen_once(void **state)
{
    struct env *e = *state;
    struct chaos *c = calloc(1, sizeof *c);

    *c = (struct chaos){.e = e, .seed = 11};
    test_db_exec(e->admin, "create table effects (position bigint)");
    run_chaos(e, write_effect, true, c);
    assert_int_equal(number(e, "select count(*) from effects"), EVENTS);
    assert_int_equal(number(e, "select count(distinct position) from effects"), EVENTS);
    free(c);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, env_setup, env_teardown)
    const struct CMUnitTest tests[] = {
        TEST(no_event_is_lost_and_no_key_runs_twice),
        TEST(effects_happen_once),
    };

    return cmocka_run_group_tests_name("worker_chaos", tests, NULL, NULL);
}
