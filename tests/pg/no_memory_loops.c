/*
 * no_memory_loops.c: every allocation of a worker, of live subscriptions and of waiting fails once. A call
 * may say TL_E_NOMEM; called again, the loop goes on: no event is lost, what is exactly once stays so.
 */
#include "client_test.h"
#include "no_memory.h"

#include <poll.h>

#define DEADLINE_US (120u * 1000000u) /* for what hangs */
enum { EVENTS = 3 };

static struct {
    char module[20];
    int handled, in_transaction;
    int64_t positions[EVENTS]; /* handled */
    int seen;
    int64_t last;
    int ended; /* status */
} run;

static void wait_a_moment(int fd, uint64_t deadline_us)
{
    uint64_t now_us = clock_us();
    uint64_t until_us = deadline_us < now_us + 20000 ? deadline_us : now_us + 20000;
    struct timespec ts = {.tv_nsec = until_us > now_us ? (long)(until_us - now_us) * 1000 : 0};

    (void)ppoll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, &ts, NULL);
}

/* ----------------------------------------------------------------------------------------- worker -- */

static tl_verdict handle(tl_delivery *d, void *userdata)
{
    int64_t position = tl_event_position(tl_delivery_event(d));

    (void)userdata;
    for (int i = 0; i < run.handled; i++)
        if (run.positions[i] == position) /* its lease was lost: at least once */
            return TL_DONE;
    assert_true(run.handled < EVENTS);
    run.positions[run.handled++] = position;
    return TL_DONE;
}

/* All effects are in the transaction. */
static tl_verdict handle_in_transaction(tl_delivery *d, void *userdata)
{
    tl_tx *tx = tl_delivery_tx(d);
    bool is_first = false;
    tl_status status;

    (void)userdata;
    run.in_transaction++;
    status = tl_tx_once(
        tx, "once", tl_delivery_id(d) == NULL ? "" : tl_event_id(tl_delivery_event(d)), &is_first);
    if (status == TL_OK)
        status = tl_tx_exec(tx, "insert into effect values ($1)", 1,
                            (const char *const[]){tl_event_id(tl_delivery_event(d))}, NULL);
    if (status == TL_OK)
        status = tl_tx_publish(tx, NULL, TL_NEW_EVENT(.type = "effect"), NULL);
    if (status == TL_OK)
        status =
            tl_tx_append(tx, run.module, TL_EXPECT_ANY, TL_NEW_EVENT(.type = "e"), 1, NULL, NULL);
    if (status != TL_OK)
        tl_delivery_set_error(d, tl_error_message(tl_tx_error(tx)));
    return status == TL_OK ? TL_DONE : TL_RETRY;
}

static tl_status make_worker(struct fixture *f, tl_worker **ret)
{
    tl_router *r = NULL, *whole = NULL;
    tl_subscribe_options options = {.size = sizeof options,
                                    .start = TL_START_BEGINNING,
                                    .filter = "{}",
                                    .max_attempts = 100,
                                    .retry_delay_us = 1000,
                                    .retry_cap_us = 2000};
    tl_status status = tl_router_new("w", &r);

    if (status == TL_OK)
        status = tl_router_new(NULL, &whole);
    if (status == TL_OK)
        status =
            tl_router_on(r, "a", handle, NULL, TL_ROUTE_OPTIONS(.name = "h", .subscribe = options));
    if (status == TL_OK)
        status = tl_router_on(
            r, "a", handle_in_transaction, NULL,
            TL_ROUTE_OPTIONS(.name = "t", .transactional = true, .subscribe = options));
    if (status == TL_OK)
        status = tl_router_include(whole, r, NULL);
    if (status == TL_OK)
        status =
            tl_worker_new(f->c, run.module, whole,
                          TL_WORKER_OPTIONS(.lease_us = 1000000, .poll_interval_us = 50000), ret);
    r = tl_router_free(r);
    whole = tl_router_free(whole);
    return status;
}

static int64_t effects(struct fixture *f)
{
    return query_number(f->db, "select count(*) from effect");
}

static void run_worker(struct fixture *f, bool *ret_said_so)
{
    uint64_t give_up_us = clock_us() + DEADLINE_US;
    tl_worker *w = NULL;
    tl_status status = make_worker(f, &w);

    if (status == TL_E_NOMEM) {
        *ret_said_so = true;
        assert_null(w);
        status = make_worker(f, &w);
    }
    assert_status(f->c, status, TL_OK);
    while (run.handled < EVENTS || effects(f) < EVENTS) {
        if (clock_us() >= give_up_us)
            fail_msg("handled %d, in a transaction %d", run.handled, run.in_transaction);
        wait_a_moment(tl_worker_fd(w), tl_worker_deadline_us(w));
        status = tl_worker_process(w);
        if (status == TL_E_NOMEM)
            *ret_said_so = true;
        else if (status < 0)
            fail_msg("process: %s", tl_error_message(tl_worker_error(w)));
    }
    tl_worker_stop(w);
    while ((status = tl_worker_process(w)) != TL_NOTHING) {
        assert_true(clock_us() < give_up_us);
        wait_a_moment(tl_worker_fd(w), tl_worker_deadline_us(w));
    }
    w = tl_worker_free(w);
}

static void of_a_worker(void **state)
{
    struct fixture *f = *state;
    bool has_failed = true;
    int n;

    test_db_exec(f->db, "create table effect (id uuid)");
    for (int i = 0; i < EVENTS; i++)
        assert_status(
            f->c,
            tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "w.a", .data = "{}", .key = "k"), NULL),
            TL_OK);
    for (n = 0; has_failed; n++) {
        bool has_said_so = false;

        test_db_exec(f->db, "truncate effect; delete from trunkline.inbox");
        memset(&run, 0, sizeof run);
        snprintf(run.module, sizeof run.module, "m-%d", n);
        fail_allocation(n);
        run_worker(f, &has_said_so);
        has_failed = end_of_failing();
        assert_true(has_failed || (run.handled == EVENTS && run.in_transaction == EVENTS));
        if (effects(f) != EVENTS)
            fail_msg("allocation %d: %d effects", n, (int)effects(f));
    }
    print_message("# worker: %d allocations\n", n - 1);
}

/* ------------------------------------------------------------------------------------------- live -- */

static int look(tl_live *live, const tl_event *e, void *userdata)
{
    (void)live;
    (void)userdata;
    assert_true(tl_event_position(e) > run.last); /* in order, none twice */
    run.last = tl_event_position(e);
    run.seen++;
    return 0;
}

static void on_ended(tl_live *live, int status, void *userdata)
{
    (void)live;
    (void)userdata;
    run.ended = status;
}

static tl_status subscribe_live(struct fixture *f, tl_live **ret)
{
    const char *types[] = {"a", "b"};

    return tl_subscribe_all(f->c,
                            TL_LIVE_OPTIONS(.topic = "bus", .after = run.last, .pattern = "*",
                                            .types = types, .type_count = 2, .ended = on_ended,
                                            .batch = 2),
                            look, NULL, ret);
}

static void run_live(struct fixture *f)
{
    uint64_t give_up_us = clock_us() + DEADLINE_US;
    tl_live *live = NULL;
    bool is_more = false;
    tl_status status = subscribe_live(f, &live);

    if (status == TL_E_NOMEM)
        status = subscribe_live(f, &live);
    assert_status(f->c, status, TL_OK);
    while (run.seen < EVENTS + 1) {
        if (clock_us() >= give_up_us)
            fail_msg("seen %d", run.seen);
        wait_a_moment(tl_client_fd(f->c), tl_client_deadline_us(f->c));
        status = tl_client_process(f->c);
        assert_true(status == TL_OK || status == TL_NOTHING || status == TL_E_NOMEM);
        if (run.ended != 0) { /* which is said; go on where it was */
            assert_int_equal(run.ended, TL_E_NOMEM);
            run.ended = 0;
            assert_int_equal(tl_live_position(live), run.last);
            live = tl_live_stop(live);
            assert_status(f->c, subscribe_live(f, &live), TL_OK);
        }
        if (!is_more && tl_live_is_caught_up(live)) {
            test_db_exec(f->db, "insert into trunkline.topic_bus (type, data) values ('b', '{}')");
            is_more = true;
        }
    }
    live = tl_live_stop(live);
}

static void of_a_live_subscription(void **state)
{
    struct fixture *f = *state;
    bool has_failed = true;
    int64_t from = 0;
    int n;

    for (n = 0; has_failed; n++) {
        f->c = tl_client_close(f->c);
        assert_status(
            f->c,
            tl_client_open(f->conninfo,
                           TL_CLIENT_OPTIONS(.reconnect_base_us = 1000, .reconnect_cap_us = 2000,
                                             .poll_interval_us = 50000),
                           &f->c),
            TL_OK);
        test_db_exec(f->db, "insert into trunkline.topic_bus (type, data) "
                            "select 'a', '{}' from generate_series(1, 3)");
        memset(&run, 0, sizeof run);
        run.last = from;
        fail_allocation(n);
        run_live(f);
        has_failed = end_of_failing();
        assert_int_equal(run.seen, EVENTS + 1);
        from = run.last;
    }
    print_message("# live: %d allocations\n", n - 1);
}

/* ------------------------------------------------------------------------------------------- wait -- */

static void of_waiting(void **state)
{
    struct fixture *f = *state;
    bool has_failed = true;
    int n;

    for (n = 0; has_failed; n++) {
        uint64_t give_up_us = clock_us() + DEADLINE_US;
        tl_status status;

        f->c = tl_client_close(f->c);
        assert_status(f->c, tl_client_open(f->conninfo, NULL, &f->c), TL_OK);
        fail_allocation(n);
        do { /* until it has joined, and an event comes */
            status = tl_client_wait(f->c, 20000);
            assert_true(status == TL_OK || status == TL_E_TIMEOUT || status == TL_E_NOMEM);
            assert_true(clock_us() < give_up_us);
        } while (status != TL_E_TIMEOUT);
        test_db_exec(f->db, "insert into trunkline.topic_bus (type, data) values ('a', '{}')");
        do {
            status = tl_client_wait(f->c, 1000000);
            assert_true(clock_us() < give_up_us);
        } while (status != TL_OK);
        has_failed = end_of_failing();
    }
    print_message("# wait: %d allocations\n", n - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(of_a_worker),
        test_with_client(of_a_live_subscription),
        test_with_client(of_waiting),
    };

    return cmocka_run_group_tests_name("no_memory_loops", tests, NULL, NULL);
}
