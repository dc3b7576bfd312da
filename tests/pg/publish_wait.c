/* publish_wait.c: tl_publish_wait, tl_event_outcomes and tl_once on a real server (PUB-9, SUB-4,
 * TOP-4, IDM-3). */
#include "client_test.h"

#include <pthread.h>
#include <unistd.h>

#define ID "11111111-1111-4111-8111-111111111111"
#define LONG_US 20000000u /* as good as for ever */

/* Someone who claims the next event of "s" in a thread of its own and settles it. */
struct consumer {
    pthread_t thread;
    const char *conninfo, *error; /* error: nack */
    tl_status status;
};

static void *consume(void *userdata)
{
    struct consumer *w = userdata;
    tl_client *c = NULL;
    tl_batch *batch = NULL;

    w->status = tl_client_open(w->conninfo, NULL, &c);
    while (w->status >= 0 && batch == NULL) {
        w->status = tl_claim(c, "s", NULL, &batch);
        if (w->status == TL_NOTHING)
            w->status = tl_client_wait(c, 100000) == TL_OK ? TL_OK : TL_NOTHING;
    }
    if (w->status == TL_OK && w->error != NULL)
        w->status = tl_nack(c, tl_batch_token(batch), tl_event_position(tl_batch_event(batch, 0)),
                            w->error, NULL);
    else if (w->status == TL_OK)
        w->status = tl_ack(c, tl_batch_token(batch), 0, NULL);
    tl_batch_free(batch);
    tl_client_close(c);
    return NULL;
}

static void start(struct fixture *f, struct consumer *w, const char *error)
{
    *w = (struct consumer){.conninfo = f->conninfo, .error = error};
    assert_int_equal(pthread_create(&w->thread, NULL, consume, w), 0);
}

static void finish(struct consumer *w)
{
    assert_int_equal(pthread_join(w->thread, NULL), 0);
    assert_int_equal(w->status, TL_OK);
}

static void subscribe(struct fixture *f, const char *name, tl_mode mode, uint32_t max_attempts)
{
    assert_status(f->c,
                  tl_subscribe(f->c, name, "**",
                               TL_SUBSCRIBE_OPTIONS(.mode = mode, .max_attempts = max_attempts)),
                  TL_OK);
}

static void inline_handler(struct fixture *f, const char *body)
{
    char sql[600];

    snprintf(
        sql, sizeof sql,
        "CREATE FUNCTION public.f(e jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN %s END $$; "
        "SELECT trunkline.subscribe('inline', '**', target => 'sql:public.f', mode => 'sync')",
        body);
    test_db_exec(f->db, sql);
}

static void waits_until_it_is_handled(void **state)
{
    struct fixture *f = *state;
    struct consumer w;
    tl_receipt receipt = {0};
    tl_outcomes *o = NULL;

    subscribe(f, "s", TL_MODE_SYNC, 0);
    subscribe(f, "other", TL_MODE_ASYNC, 0);
    inline_handler(f, "");
    start(f, &w, NULL);
    assert_status(
        f->c, tl_publish_wait(f->c, NULL, TL_NEW_EVENT(.type = "a"), LONG_US, &receipt, &o), TL_OK);
    finish(&w);
    assert_true(receipt.position > 0);
    assert_int_equal(tl_outcomes_count(o), 2);
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(tl_outcomes_subscription(o, i), i == 0 ? "inline" : "s");
        assert_string_equal(tl_outcomes_state(o, i), "completed");
        assert_true(tl_outcomes_has_ended(o, i));
        assert_true(tl_outcomes_is_sync(o, i));
        assert_true(tl_outcomes_is_active(o, i));
        assert_null(tl_outcomes_error(o, i));
    }
    o = tl_outcomes_free(o);

    assert_status(f->c, tl_event_outcomes(f->c, NULL, receipt.position, &o), TL_OK);
    assert_int_equal(tl_outcomes_count(o), 3);
    assert_string_equal(tl_outcomes_subscription(o, 1), "other");
    assert_string_equal(tl_outcomes_state(o, 1), "pending");
    assert_false(tl_outcomes_has_ended(o, 1));
    assert_false(tl_outcomes_is_sync(o, 1));
    o = tl_outcomes_free(o);
    assert_status(f->c, tl_event_outcomes(f->c, NULL, 12345, &o), TL_E_NOTFOUND);
    assert_null(o);
}

static void a_deadline_ends_it(void **state)
{
    struct fixture *f = *state;
    tl_receipt receipt = {0};
    tl_outcomes *o = NULL;
    tl_batch *batch = NULL;

    subscribe(f, "s", TL_MODE_SYNC, 0);
    subscribe(f, "t\"t", TL_MODE_SYNC, 0);
    assert_status(f->c,
                  tl_publish_wait(f->c, NULL, TL_NEW_EVENT(.type = "a"), 1000000, &receipt, &o),
                  TL_E_TIMEOUT);
    assert_contains(message(f->c), "not handled within 1000 ms by \"s\", \"t\"t\"");
    assert_string_equal(tl_error_detail(tl_client_error(f->c)), "{\"pending\":[\"s\",\"t\\\"t\"]}");
    assert_false(tl_error_outcome_unknown(tl_client_error(f->c)));
    assert_true(receipt.position > 0);
    assert_int_equal(tl_outcomes_count(o), 2);
    assert_string_equal(tl_outcomes_state(o, 0), "pending");
    o = tl_outcomes_free(o);
    /* stored and still delivered */
    assert_int_equal(event_count(f->db), 1);
    assert_status(f->c, tl_claim(f->c, "s", NULL, &batch), TL_OK);
    assert_int_equal(tl_event_position(tl_batch_event(batch, 0)), receipt.position);
    batch = tl_batch_free(batch);
    /* 0 is the client's own limit */
    tl_client *c = NULL;
    assert_status(c, tl_client_open(f->conninfo, TL_CLIENT_OPTIONS(.timeout_us = 2000000), &c),
                  TL_OK);
    assert_status(c, tl_publish_wait(c, NULL, TL_NEW_EVENT(.type = "a"), 0, NULL, NULL),
                  TL_E_TIMEOUT);
    assert_contains(message(c), "within 2000 ms");
    tl_client_close(c);
}

static void giving_up_is_told(void **state)
{
    struct fixture *f = *state;
    struct consumer w;
    tl_receipt receipt = {0};
    tl_outcomes *o = NULL;

    subscribe(f, "s", TL_MODE_SYNC, 1);
    start(f, &w, "no such order");
    assert_status(f->c,
                  tl_publish_wait(f->c, NULL, TL_NEW_EVENT(.type = "a"), LONG_US, &receipt, &o),
                  TL_E_REJECTED);
    finish(&w);
    assert_string_equal(tl_error_detail(tl_client_error(f->c)), "{\"failed\":[\"s\"]}");
    assert_true(receipt.position > 0);
    assert_string_equal(tl_outcomes_state(o, 0), "failed");
    assert_string_equal(tl_outcomes_error(o, 0), "no such order");
    assert_int_equal(tl_outcomes_attempts(o, 0), 1);
    assert_int_equal(event_count(f->db), 1);
    o = tl_outcomes_free(o);
}

static void a_function_refuses(void **state)
{
    struct fixture *f = *state;
    tl_receipt receipt = {.position = 7};
    tl_outcomes *o = (tl_outcomes *)&receipt;

    inline_handler(f, "RAISE EXCEPTION 'no stock';");
    assert_status(f->c,
                  tl_publish_wait(f->c, NULL, TL_NEW_EVENT(.type = "a"), LONG_US, &receipt, &o),
                  TL_E_REJECTED);
    assert_string_equal(message(f->c),
                        "subscription \"inline\" refused an event of type a: no stock");
    assert_string_equal(tl_error_sqlstate(tl_client_error(f->c)), "TL008");
    assert_contains(tl_error_detail(tl_client_error(f->c)), "\"subscription\": \"inline\"");
    assert_int_equal(receipt.position, 0);
    assert_null(o);
    assert_int_equal(event_count(f->db), 0);
    assert_status(f->c, tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "a"), NULL), TL_E_REJECTED);
    tl_new_event two[2] = {*TL_NEW_EVENT(.type = "a"), *TL_NEW_EVENT(.type = "b")};
    assert_status(f->c, tl_publish_batch(f->c, NULL, two, 2, NULL), TL_E_REJECTED);
    assert_int_equal(event_count(f->db), 0);
}

static void nobody_to_wait_for(void **state)
{
    struct fixture *f = *state;
    tl_outcomes *o = NULL;

    subscribe(f, "async", TL_MODE_ASYNC, 0);
    subscribe(f, "paused", TL_MODE_SYNC, 0);
    test_db_exec(f->db, "UPDATE trunkline.subscriptions SET active = false WHERE name = 'paused'");
    assert_status(f->c, tl_publish_wait(f->c, NULL, TL_NEW_EVENT(.type = "a"), LONG_US, NULL, &o),
                  TL_OK);
    assert_int_equal(tl_outcomes_count(o), 1);
    assert_string_equal(tl_outcomes_subscription(o, 0), "paused");
    assert_false(tl_outcomes_is_active(o, 0));
    assert_string_equal(tl_outcomes_state(o, 0), "pending");
    o = tl_outcomes_free(o);
    assert_status(f->c, tl_publish_wait(f->c, "no_such", TL_NEW_EVENT(.type = "a"), 0, NULL, NULL),
                  TL_E_NOTFOUND);
    assert_status(f->c, tl_publish_wait(f->c, NULL, TL_NEW_EVENT(.type = ".a"), 0, NULL, NULL),
                  TL_E_INVALID);
}

static void not_for_what_falls_due_later(void **state)
{
    struct fixture *f = *state;

    assert_status(
        f->c,
        tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "a", .id = ID, .delay_us = 3600000000u), NULL),
        TL_OK);
    assert_status(f->c,
                  tl_publish_wait(f->c, NULL,
                                  TL_NEW_EVENT(.type = "a", .id = ID, .delay_us = 3600000000u),
                                  1000000, NULL, NULL),
                  TL_E_INVALID);
    assert_status(
        f->c, tl_publish_wait(f->c, NULL, TL_NEW_EVENT(.type = "a", .id = ID), 1000000, NULL, NULL),
        TL_E_INVALID);
    assert_contains(message(f->c), "falls due later");
}

static void the_same_id_again(void **state)
{
    struct fixture *f = *state;
    struct consumer w;
    tl_receipt first = {0}, second = {0};

    subscribe(f, "s", TL_MODE_SYNC, 0);
    assert_status(
        f->c, tl_publish_wait(f->c, NULL, TL_NEW_EVENT(.type = "a", .id = ID), 50000, &first, NULL),
        TL_E_TIMEOUT);
    start(f, &w, NULL);
    assert_status(
        f->c,
        tl_publish_wait(f->c, NULL, TL_NEW_EVENT(.type = "a", .id = ID), LONG_US, &second, NULL),
        TL_OK);
    finish(&w);
    assert_true(second.deduplicated);
    assert_int_equal(second.position, first.position);
    assert_int_equal(event_count(f->db), 1);
}

/* Does something to the client once it waits. */
struct meddler {
    pthread_t thread;
    struct fixture *f;
    bool is_cancelling;
};

static void *meddle(void *userdata)
{
    struct meddler *m = userdata;
    PGconn *db = test_db_connect(m->f->conninfo);

    while (event_count(db) == 0)
        usleep(1000);
    if (m->is_cancelling)
        tl_client_cancel(m->f->c);
    else
        test_db_exec(db, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                         "application_name = 'libtrunkline' AND datname = current_database()");
    PQfinish(db);
    return NULL;
}

static void cancel(void **state)
{
    struct fixture *f = *state;
    struct meddler m = {.f = f, .is_cancelling = true};
    tl_receipt receipt = {0};

    subscribe(f, "s", TL_MODE_SYNC, 0);
    assert_int_equal(pthread_create(&m.thread, NULL, meddle, &m), 0);
    assert_status(
        f->c, tl_publish_wait(f->c, NULL, TL_NEW_EVENT(.type = "a"), UINT64_MAX, &receipt, NULL),
        TL_E_CANCELLED);
    assert_int_equal(pthread_join(m.thread, NULL), 0);
    assert_true(receipt.position > 0);
    assert_int_equal(event_count(f->db), 1);
}

static void a_lost_connection_is_replaced(void **state)
{
    struct fixture *f = *state;
    struct meddler m = {.f = f};
    struct consumer w;

    subscribe(f, "s", TL_MODE_SYNC, 0);
    assert_int_equal(pthread_create(&m.thread, NULL, meddle, &m), 0);
    tl_receipt receipt = {0};
    /* long enough for the cut; then the consumer comes */
    assert_status(
        f->c,
        tl_publish_wait(f->c, NULL, TL_NEW_EVENT(.type = "a", .id = ID), 2000000, &receipt, NULL),
        TL_E_TIMEOUT);
    assert_int_equal(pthread_join(m.thread, NULL), 0);
    start(f, &w, NULL);
    assert_status(
        f->c, tl_publish_wait(f->c, NULL, TL_NEW_EVENT(.type = "a", .id = ID), LONG_US, NULL, NULL),
        TL_OK);
    finish(&w);
}

static void without_the_right_nothing_is_stored(void **state)
{
    struct fixture *f = *state;
    char sql[300], conninfo[600];
    tl_client *c = NULL;

    snprintf(sql, sizeof sql,
             "CREATE ROLE tl_wait_%d LOGIN; SELECT trunkline.grant_publish('tl_wait_%d')", getpid(),
             getpid());
    test_db_exec(f->db, sql);
    snprintf(conninfo, sizeof conninfo, "%s user=tl_wait_%d", f->conninfo, getpid());
    assert_status(c, tl_client_open(conninfo, NULL, &c), TL_OK);
    assert_status(c, tl_publish_wait(c, NULL, TL_NEW_EVENT(.type = "a"), 0, NULL, NULL),
                  TL_E_DENIED);
    assert_int_equal(event_count(f->db), 0);
    assert_status(c, tl_publish(c, NULL, TL_NEW_EVENT(.type = "a"), NULL), TL_OK);
    tl_client_close(c);
    snprintf(sql, sizeof sql, "DROP OWNED BY tl_wait_%d; DROP ROLE tl_wait_%d", getpid(), getpid());
    test_db_exec(f->db, sql);
}

static void once(void **state)
{
    struct fixture *f = *state;
    bool is_first = false;

    assert_status(f->c, tl_once(f->c, "s", ID, &is_first), TL_OK);
    assert_true(is_first);
    assert_status(f->c, tl_once(f->c, "s", ID, &is_first), TL_OK);
    assert_false(is_first);
    assert_status(f->c, tl_once(f->c, "t", ID, &is_first), TL_OK);
    assert_true(is_first);
    assert_status(f->c, tl_once(f->c, "", ID, &is_first), TL_E_INVALID);
    assert_contains(message(f->c), "subscription");
    assert_status(f->c, tl_once(f->c, NULL, ID, &is_first), TL_E_INVALID);
    assert_status(f->c, tl_once(f->c, "s", "x", &is_first), TL_E_INVALID);
    assert_contains(message(f->c), "event_id");
}

static tl_verdict once_in_tx(tl_delivery *d, void *userdata)
{
    int *calls = userdata;
    bool is_first = false;

    if (tl_tx_once(tl_delivery_tx(d), "inbox", tl_event_id(tl_delivery_event(d)), &is_first) !=
            TL_OK ||
        !is_first)
        return TL_FAIL;
    if (tl_tx_once(tl_delivery_tx(d), "inbox", "?", &is_first) != TL_E_INVALID)
        return TL_FAIL;
    /* the first time it rolls back, so that the second time is the first again */
    return ++*calls == 1 ? TL_RETRY : TL_DONE;
}

static void once_in_a_handler(void **state)
{
    struct fixture *f = *state;
    tl_router *router = NULL;
    tl_worker *worker = NULL;
    int calls = 0;

    assert_int_equal(tl_router_new(NULL, &router), TL_OK);
    assert_int_equal(
        tl_router_on(router, "a", once_in_tx, &calls,
                     TL_ROUTE_OPTIONS(.name = "h", .transactional = true,
                                      .subscribe = *TL_SUBSCRIBE_OPTIONS(.retry_delay_us = 1000,
                                                                         .retry_cap_us = 1000))),
        TL_OK);
    assert_status(f->c, tl_worker_new(f->c, "m", router, NULL, &worker), TL_OK);
    assert_status(f->c, tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "a", .id = ID), NULL), TL_OK);
    for (int i = 0; i < 60000; i++) {
        tl_worker_stats stats;
        assert_true(tl_worker_process(worker) >= 0);
        tl_worker_get_stats(worker, &stats);
        assert_int_equal(stats.failed, 0);
        if (stats.done == 1)
            break;
        usleep(1000);
    }
    assert_int_equal(calls, 2);
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.inbox"), 1);
    tl_worker_free(worker);
    tl_router_free(router);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(waits_until_it_is_handled),
        test_with_client(a_deadline_ends_it),
        test_with_client(giving_up_is_told),
        test_with_client(a_function_refuses),
        test_with_client(nobody_to_wait_for),
        test_with_client(not_for_what_falls_due_later),
        test_with_client(the_same_id_again),
        test_with_client(cancel),
        test_with_client(a_lost_connection_is_replaced),
        test_with_client(without_the_right_nothing_is_stored),
        test_with_client(once),
        test_with_client(once_in_a_handler),
    };

    return cmocka_run_group_tests_name("publish_wait", tests, NULL, NULL);
}
