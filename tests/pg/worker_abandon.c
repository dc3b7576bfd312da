/* worker_abandon.c: tl_worker_abandon: what is finished is settled, the rest can be had at once
 * (WRK-2, WRK-4). */
#include "client_test.h"

#include <unistd.h>

struct handled {
    int count;
    tl_status inside; /* of a tl_worker_abandon from the handler */
    tl_worker *worker;
};

/* The third never ends. */
static tl_verdict handle(tl_delivery *d, void *userdata)
{
    struct handled *h = userdata;

    (void)d;
    h->inside = tl_worker_abandon(h->worker);
    return ++h->count == 3 ? TL_PENDING : h->count == 2 ? TL_FAIL : TL_DONE;
}

/* Two minutes are for what hangs. */
static void process_until(struct handled *h, int count)
{
    for (int i = 0; i < 120000 && h->count < count; i++) {
        assert_true(tl_worker_process(h->worker) >= 0);
        usleep(1000);
    }
    assert_int_equal(h->count, count);
}

static void hands_back_what_is_in_flight(void **state)
{
    struct fixture *f = *state;
    struct handled h = {0};
    tl_batch *batch = NULL;

    assert_status(
        f->c, tl_subscribe(f->c, "s", "**", TL_SUBSCRIBE_OPTIONS(.ordering = TL_ORDERING_TOTAL)),
        TL_OK);
    assert_status(
        f->c, tl_worker_new(f->c, "m", NULL, TL_WORKER_OPTIONS(.lease_us = 3600000000), &h.worker),
        TL_OK);
    assert_status(f->c, tl_worker_handle(h.worker, "s", handle, &h, NULL), TL_OK);
    test_db_exec(f->db,
                 "INSERT INTO trunkline.topic_bus (type, data, key) SELECT 'a', to_jsonb(i), i "
                 "FROM generate_series(1, 5) i");
    process_until(&h, 3);
    assert_int_equal(h.inside, TL_E_INVALID);
    assert_status(f->c, tl_worker_abandon(h.worker), TL_OK);
    assert_status(f->c, tl_worker_abandon(h.worker), TL_OK); /* once is enough */
    h.worker = tl_worker_free(h.worker);
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.dead_letters"), 1);
    assert_status(f->c, tl_claim(f->c, "s", NULL, &batch), TL_OK);
    assert_int_equal(tl_batch_count(batch), 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(tl_event_position(tl_batch_event(batch, i)), 3 + i);
        assert_int_equal(tl_batch_attempt(batch, i), 1);
    }
    batch = tl_batch_free(batch);
}

static tl_verdict fail_first(tl_delivery *d, void *userdata)
{
    struct handled *h = userdata;

    (void)d;
    return ++h->count == 1 ? TL_FAIL : TL_PENDING;
}

/* RET-8: a part with a failure is being settled, and its answer was not read yet */
static void an_ack_on_its_way_is_no_obstacle(void **state)
{
    struct fixture *f = *state;
    struct handled h = {0};

    assert_status(
        f->c, tl_subscribe(f->c, "s", "**", TL_SUBSCRIBE_OPTIONS(.ordering = TL_ORDERING_TOTAL)),
        TL_OK);
    assert_status(f->c,
                  tl_worker_new(f->c, "m", NULL, TL_WORKER_OPTIONS(.lease_us = 5000000), &h.worker),
                  TL_OK);
    assert_status(f->c, tl_worker_handle(h.worker, "s", fail_first, &h, NULL), TL_OK);
    test_db_exec(f->db, "INSERT INTO trunkline.topic_bus (type, data, key) SELECT 'a', '1', i "
                        "FROM generate_series(1, 3) i");
    process_until(&h, 2);
    usleep(2600000); /* a part is settled after half of the lease */
    assert_true(tl_worker_process(h.worker) >= 0);
    wait_for(f->db, "SELECT count(*) FROM trunkline.dead_letters");
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.dead_letters"), 1);
    assert_status(f->c, tl_worker_abandon(h.worker), TL_OK);
    h.worker = tl_worker_free(h.worker);
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.leases WHERE held"), 0);
    assert_int_equal(query_number(f->db, "SELECT sum(events) FROM trunkline.leases"), 2);
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.dead_letters"), 1);
}

static void without_leases_it_does_nothing(void **state)
{
    struct fixture *f = *state;
    tl_worker *worker = NULL;

    assert_status(f->c, tl_worker_new(f->c, "m", NULL, NULL, &worker), TL_OK);
    assert_status(f->c, tl_worker_abandon(worker), TL_OK);
    tl_worker_free(worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(hands_back_what_is_in_flight),
        test_with_client(an_ack_on_its_way_is_no_obstacle),
        test_with_client(without_leases_it_does_nothing),
    };

    return cmocka_run_group_tests_name("worker_abandon", tests, NULL, NULL);
}
