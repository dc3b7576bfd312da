/*
 * worker_delivery.c: what a worker delivers, in which order, how often, and what is left when it
 * stops or loses its lease: SUB-1, SUB-3, SUB-7, SUB-10, WRK-1 to WRK-5, WRK-9, RET-1 to RET-6.
 */
#include "worker_env.h"

/* ------------------------------------------------------------------------ handlers -- */

static tl_verdict see_it(tl_delivery *d, void *userdata)
{
    see(userdata, d);
    return TL_DONE;
}

/* Keeps deliveries in flight until the test completes them. */
struct held {
    tl_delivery *deliveries[MAX_DELIVERED];
    int count;
    int until;
    struct seen seen;
};

static tl_verdict hold(tl_delivery *d, void *userdata)
{
    struct held *h = userdata;

    see(&h->seen, d);
    h->deliveries[h->count++] = d;
    return TL_PENDING;
}

static bool is_listening(void *arg)
{
    return stats_of(arg).is_listening;
}

static bool holds(void *arg)
{
    const struct held *h = arg;

    return h->count >= h->until;
}

static void complete_all(struct held *h, tl_verdict verdict)
{
    for (int i = 0; i < h->count; i++)
        tl_delivery_complete(h->deliveries[i], verdict);
    h->count = 0;
}

static bool is_settled(void *arg)
{
    struct env *e = arg;

    return number(e, "select (select count(*) from trunkline.leases) + "
                     "(select count(*) from trunkline.retries)") == 0;
}

/* --------------------------------------------------------------------------- tests -- */

static tl_verdict check_fields(tl_delivery *d, void *userdata)
{
    struct seen *s = userdata;
    const tl_event *e = tl_delivery_event(d);
    char id[80];
    size_t len;

    snprintf(id, sizeof id, "%s.1", tl_event_id(e));
    assert_string_equal(tl_delivery_id(d), id);
    assert_string_equal(tl_delivery_subscription(d), "m/h");
    assert_string_equal(tl_delivery_topic(d), "bus");
    assert_int_equal(tl_delivery_attempt(d), 1);
    assert_null(tl_delivery_tx(d));
    assert_non_null(tl_delivery_client(d));
    assert_string_equal(tl_event_type(e), "financial.invoice.created");
    assert_string_equal(tl_event_data(e, &len), "{\"n\": 1}");
    assert_int_equal(len, 8);
    assert_string_equal(tl_event_key(e), "k1");
    assert_null(tl_event_tenant_id(e));
    see(s, d);
    return TL_DONE;
}

/* SUB-1, WRK-5 */
static void gives_the_event_as_published(void **state)
{
    struct env *e = *state;
    struct seen s = {.until = 1};
    tl_worker *w = simple_worker(e->client, check_fields, &s, TL_ORDERING_KEY, false, NULL);

    publish(e, "financial.invoice.created", "k1", 1);
    drive_one(w, has_seen, &s);
    drive_one(w, is_settled, e);
    assert_int_equal(number(e, "select count(*) from trunkline.subscriptions"), 1);
    assert_int_equal(stats_of(w).done, 1);
    tl_worker_free(w);
}

/* WRK-3: a backlog drains without waiting for polls; SUB-5: history, then live, no gap, no repeat */
static void delivers_in_order_history_then_live(void **state)
{
    struct env *e = *state;
    struct seen s = {.until = 1000};
    tl_worker *w;

    publish(e, "a.b", "", 1000);
    w = simple_worker(e->client, see_it, &s, TL_ORDERING_KEY, false,
                      TL_WORKER_OPTIONS(.claim_batch = 30, .poll_interval_us = NO_POLL_US));
    drive_one(w, has_seen, &s);
    publish(e, "a.b", "", 500);
    s.until = 1500;
    drive_one(w, has_seen, &s);
    drive_one(w, is_settled, e);
    assert_int_equal(s.count, 1500);
    for (int i = 1; i < s.count; i++)
        assert_true(s.positions[i] > s.positions[i - 1]);
    tl_worker_free(w);
}

/* A rare type behind much that does not match: looked for without a pause. */
static void a_rare_type_is_found_behind_a_long_backlog(void **state)
{
    struct env *e = *state;
    struct seen s = {.until = 1};
    tl_subscribe_options options = subscribe_options(TL_ORDERING_KEY);
    tl_router *r = new_router();
    tl_worker *w;

    publish(e, "common", "", 45000);
    publish(e, "rare", "", 1);
    assert_int_equal(tl_router_on(r, "rare", see_it, &s, TL_ROUTE_OPTIONS(.subscribe = options)),
                     TL_OK);
    w = new_worker(e->client, r, TL_WORKER_OPTIONS(.poll_interval_us = NO_POLL_US));
    tl_router_free(r);
    drive_one(w, has_seen, &s);
    drive_one(w, is_settled, e);
    tl_worker_free(w);
}

static bool both_hold(void *arg)
{
    struct held *h = arg;

    return h[0].count >= 5 && h[1].count >= 5;
}

static bool any_holds(void *arg)
{
    struct held *h = arg;

    return h[0].count + h[1].count > 0;
}

/* WRK-4: claims are disjoint; SUB-10: many workers on one subscription */
static void two_workers_share(void **state)
{
    struct env *e = *state;
    struct held *h = calloc(2, sizeof *h);
    tl_client *other = open_client(e->conninfo);
    const tl_worker_options *options = TL_WORKER_OPTIONS(.claim_batch = 10);
    tl_worker *workers[2];
    bool has[MAX_DELIVERED] = {false};

    publish(e, "a.b", "", 200);
    workers[0] = simple_worker(e->client, hold, &h[0], TL_ORDERING_NONE, false, options);
    workers[1] = simple_worker(other, hold, &h[1], TL_ORDERING_NONE, false, options);
    drive(workers, 2, both_hold, h);
    while (h[0].seen.count + h[1].seen.count < 200) {
        complete_all(&h[0], TL_DONE);
        complete_all(&h[1], TL_DONE);
        drive(workers, 2, any_holds, h);
    }
    complete_all(&h[0], TL_DONE);
    complete_all(&h[1], TL_DONE);
    drive(workers, 2, is_settled, e);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < h[k].seen.count; i++) {
            assert_false(has[h[k].seen.positions[i]]);
            has[h[k].seen.positions[i]] = true;
        }
    }
    assert_int_equal(h[0].seen.count + h[1].seen.count, 200);
    for (int k = 0; k < 2; k++)
        tl_worker_free(workers[k]);
    tl_client_close(other);
    free(h);
}

static tl_verdict fail_odd(tl_delivery *d, void *userdata)
{
    see(userdata, d);
    if (strcmp(tl_event_type(tl_delivery_event(d)), "bad") != 0)
        return TL_DONE;
    tl_delivery_set_error(d, "it is \"bad\"\n\xff");
    return TL_RETRY;
}

static bool has_dead_letter(void *arg)
{
    struct env *e = arg;

    return number(e, "select count(*) from trunkline.dead_letters") > 0 && is_settled(arg);
}

/* RET-1, RET-2, RET-3, RET-6 */
static void retries_then_dead_letter(void **state)
{
    struct env *e = *state;
    struct seen s = {0};
    tl_worker *w = simple_worker(e->client, fail_odd, &s, TL_ORDERING_KEY, false,
                                 TL_WORKER_OPTIONS(.poll_interval_us = NO_POLL_US));

    publish(e, "good", "", 2);
    publish(e, "bad", "", 1);
    publish(e, "good", "", 2);
    drive_one(w, has_dead_letter, e);
    assert_int_equal(s.count, 7);
    for (int i = 0, attempt = 0; i < s.count; i++) {
        if (s.positions[i] == 3)
            assert_int_equal(s.attempts[i], ++attempt);
        else
            assert_int_equal(s.attempts[i], 1);
    }
    assert_int_equal(number(e, "select attempts from trunkline.dead_letters where \"position\" = 3 "
                               "and reason = 'max_attempts' and subscription = 'm/h' "
                               "and error_message = E'it is \"bad\"\\n?'"),
                     3);
    assert_int_equal(stats_of(w).retried, 3);
    assert_int_equal(stats_of(w).done, 4);
    tl_worker_free(w);
}

static tl_verdict by_type(tl_delivery *d, void *userdata)
{
    const char *type = tl_event_type(tl_delivery_event(d));

    see(userdata, d);
    if (strcmp(type, "skip") == 0)
        return TL_SKIP;
    if (strcmp(type, "fail") == 0)
        return TL_FAIL;
    if (strcmp(type, "later") == 0 && tl_delivery_attempt(d) == 1) {
        tl_delivery_set_retry_after(d, 3600ull * SECOND_US);
        return TL_RETRY;
    }
    return TL_DONE;
}

/* RET-4 */
static void verdicts_are_kept(void **state)
{
    struct env *e = *state;
    struct seen s = {.until = 4};
    tl_worker *w = simple_worker(e->client, by_type, &s, TL_ORDERING_TOTAL, false, NULL);
    tl_worker_stats stats;

    publish(e, "skip", "", 1);
    publish(e, "fail", "", 1);
    publish(e, "fine", "", 1);
    publish(e, "later", "", 1); /* last: in total order everything behind it waits */
    drive_one(w, has_seen, &s);
    tl_worker_stop(w);
    assert_int_equal(tl_worker_run(w), TL_OK);
    stats = stats_of(w);
    assert_int_equal(stats.skipped, 1);
    assert_int_equal(stats.failed, 1);
    assert_int_equal(stats.retried, 1);
    assert_int_equal(stats.done, 1);
    assert_int_equal(number(e, "select count(*) from trunkline.dead_letters where \"position\" = 2 "
                               "and reason = 'rejected'"),
                     1);
    assert_int_equal(number(e, "select count(*) from trunkline.retries where \"position\" = 4 "
                               "and next_attempt_at > now() + interval '50 min'"),
                     1);
    assert_int_equal(number(e, "select count(*) from trunkline.leases"), 0);
    tl_worker_free(w);
}

/* SUB-10, WRK-3: concurrency is the limit, no two of one key at once, order of a key kept */
static void pending_deliveries_keep_the_order_of_keys(void **state)
{
    struct env *e = *state;
    struct held *h = calloc(1, sizeof *h);
    int64_t last[4] = {0, 0, 0, 0};
    int most = 0;
    tl_worker *w;

    test_db_exec(e->admin, "insert into trunkline.topic_bus (type, data, key) "
                           "select 'a', '{}', case i % 4 when 3 then null else 'k' || i % 4 end "
                           "from generate_series(0, 199) i");
    w = simple_worker(e->client, hold, h, TL_ORDERING_KEY, false,
                      TL_WORKER_OPTIONS(.concurrency = 6, .claim_batch = 50));
    for (unsigned seed = 1; h->seen.count < 200;) {
        int keys[4] = {0, 0, 0, 0};

        h->until = 1;
        drive_one(w, holds, h);
        for (int i = 0; i < 5; i++) /* whatever else may start */
            assert_int_equal(tl_worker_process(w), TL_OK);
        most = h->count > most ? h->count : most;
        assert_true(h->count <= 6);
        assert_int_equal(stats_of(w).in_flight, h->count);
        for (int i = 0; i < h->count; i++) {
            const char *key = tl_event_key(tl_delivery_event(h->deliveries[i]));
            int64_t position = tl_event_position(tl_delivery_event(h->deliveries[i]));

            if (key == NULL)
                continue;
            assert_int_equal(keys[key[1] - '0']++, 0);
            assert_true(position >= last[key[1] - '0']);
            last[key[1] - '0'] = position;
        }
        if (h->count > 0) { /* complete any one */
            int i = (int)((seed = seed * 1103515245u + 12345u) >> 16) % h->count;

            tl_delivery_complete(h->deliveries[i], TL_DONE);
            h->deliveries[i] = h->deliveries[--h->count];
        }
    }
    assert_int_equal(most, 6);
    complete_all(h, TL_DONE);
    drive_one(w, is_settled, e);
    assert_int_equal(stats_of(w).done, 200);
    tl_worker_free(w);
    free(h);
}

/* SUB-10 */
static void total_order_runs_one_at_a_time(void **state)
{
    struct env *e = *state;
    struct held *h = calloc(1, sizeof *h);
    tl_worker *w = simple_worker(e->client, hold, h, TL_ORDERING_TOTAL, false, NULL);

    publish(e, "a", "", 10);
    for (int i = 1; i <= 10; i++) {
        h->until = 1;
        drive_one(w, holds, h);
        for (int k = 0; k < 10; k++)
            assert_int_equal(tl_worker_process(w), TL_OK);
        assert_int_equal(h->count, 1);
        assert_int_equal(h->seen.positions[i - 1], i);
        complete_all(h, TL_DONE);
    }
    drive_one(w, is_settled, e);
    tl_worker_free(w);
    free(h);
}

static tl_verdict fail_once(tl_delivery *d, void *userdata)
{
    see(userdata, d);
    return tl_delivery_attempt(d) == 1 ? TL_RETRY : TL_DONE;
}

/* WRK-9, RET-3: three handlers of one event; the failing one burns its own attempts only */
static void one_failing_handler_leaves_the_others_alone(void **state)
{
    struct env *e = *state;
    struct seen s[3] = {{.until = 1}, {.until = 2}, {.until = 1}};
    tl_router *inner = new_router();
    tl_router *r;
    tl_worker *w;

    /* WRK-1: prefixes apply to direct and included handlers alike */
    assert_int_equal(tl_router_new("shop", &r), TL_OK);
    tl_subscribe_options options = subscribe_options(TL_ORDERING_KEY);
    assert_int_equal(tl_router_on(r, "order.*", see_it, &s[0],
                                  TL_ROUTE_OPTIONS(.name = "one", .subscribe = options)),
                     TL_OK);
    assert_int_equal(
        tl_router_on(inner, "*", fail_once, &s[1], TL_ROUTE_OPTIONS(.subscribe = options)), TL_OK);
    assert_int_equal(tl_router_on(inner, "paid", see_it, &s[2],
                                  TL_ROUTE_OPTIONS(.name = "three", .subscribe = options)),
                     TL_OK);
    assert_int_equal(tl_router_include(r, inner, "order"), TL_OK);
    tl_router_free(inner);
    w = new_worker(e->client, r, NULL);
    tl_router_free(r);
    publish(e, "shop.order.paid", "", 1);
    publish(e, "order.paid", "", 1);
    for (int i = 0; i < 3; i++)
        drive_one(w, has_seen, &s[i]);
    drive_one(w, is_settled, e);
    assert_int_equal(s[0].count, 1);
    assert_int_equal(s[1].count, 2);
    assert_int_equal(s[2].count, 1);
    assert_int_equal(number(e, "select count(*) from trunkline.subscriptions "
                               "where name in ('m/one', 'm/shop.order.*', 'm/three')"),
                     3);
    tl_worker_free(w);
}

/* WRK-2: stop finishes what it holds and hands the rest back at once, without counting an attempt */
static void stop_drains_and_releases(void **state)
{
    struct env *e = *state;
    struct held *h = calloc(1, sizeof *h);
    struct seen rest = {.until = 95};
    tl_worker *w;

    publish(e, "a", "", 100);
    w = simple_worker(e->client, hold, h, TL_ORDERING_KEY, false,
                      TL_WORKER_OPTIONS(.poll_interval_us = NO_POLL_US));
    h->until = 5;
    drive_one(w, holds, h);
    tl_worker_stop(w);
    for (int i = 0; i < 20; i++)
        assert_int_equal(tl_worker_process(w), TL_OK);
    assert_int_equal(h->seen.count, 5);
    complete_all(h, TL_DONE);
    assert_int_equal(tl_worker_run(w), TL_OK);
    assert_int_equal(h->seen.count, 5);
    assert_int_equal(tl_worker_process(w), TL_NOTHING);
    assert_int_equal(tl_worker_run(w), TL_E_INVALID); /* run twice */
    tl_worker_free(w);

    w = simple_worker(e->client, see_it, &rest, TL_ORDERING_KEY, false,
                      TL_WORKER_OPTIONS(.poll_interval_us = NO_POLL_US));
    drive_one(w, has_seen, &rest);
    drive_one(w, is_settled, e);
    assert_int_equal(rest.count, 95);
    for (int i = 0; i < rest.count; i++) {
        assert_int_equal(rest.positions[i], 6 + i);
        assert_int_equal(rest.attempts[i], 1);
    }
    tl_worker_free(w);
    free(h);
}

/* WRK-2: what a stopping worker hands back is taken over at once by one that sleeps */
static void what_is_released_wakes_another_worker(void **state)
{
    struct env *e = *state;
    struct held *h = calloc(1, sizeof *h);
    struct seen rest = {.until = 95};
    tl_client *other = open_client(e->conninfo);
    const tl_worker_options *options = TL_WORKER_OPTIONS(.poll_interval_us = NO_POLL_US);
    tl_worker *workers[2];

    publish(e, "a", "", 100);
    workers[0] = simple_worker(e->client, hold, h, TL_ORDERING_KEY, false, options);
    h->until = 5;
    drive_one(workers[0], holds, h);
    workers[1] = simple_worker(other, see_it, &rest, TL_ORDERING_KEY, false, options);
    drive(workers, 2, is_listening, workers[1]);
    tl_worker_stop(workers[0]);
    complete_all(h, TL_DONE);
    assert_int_equal(tl_worker_run(workers[0]), TL_OK);
    drive_one(workers[1], has_seen, &rest);
    drive_one(workers[1], is_settled, e);
    assert_int_equal(rest.count, 95);
    tl_worker_free(workers[0]);
    tl_worker_free(workers[1]);
    tl_client_close(other);
    free(h);
}

/* WRK-11: a subscription whose handlers hang holds up only itself */
static void a_hung_subscription_holds_up_only_itself(void **state)
{
    struct env *e = *state;
    struct held *h = calloc(1, sizeof *h);
    struct seen s = {.until = 300};
    tl_worker *w = new_worker(e->client, NULL, TL_WORKER_OPTIONS(.concurrency = 4));

    test_db_exec(e->admin, "select trunkline.subscribe('x/hung', '**', start_at => 'beginning', "
                           "priority => 10)");
    test_db_exec(e->admin, "select trunkline.subscribe('x/fine', '**', start_at => 'beginning')");
    assert_int_equal(tl_worker_handle(w, "x/hung", hold, h, TL_HANDLE_OPTIONS(.concurrency = 3)),
                     TL_OK);
    assert_int_equal(tl_worker_handle(w, "x/fine", see_it, &s, NULL), TL_OK);
    publish(e, "a", "", 300);
    drive_one(w, has_seen, &s);
    assert_int_equal(h->count, 3);
    tl_worker_free(w);
    free(h);
}

/* WRK-2, WRK-11: a handler that never ends does not keep the worker */
static void stop_gives_up_at_its_time_limit(void **state)
{
    struct env *e = *state;
    struct held *h = calloc(1, sizeof *h);
    tl_worker *w = simple_worker(e->client, hold, h, TL_ORDERING_KEY, false,
                                 TL_WORKER_OPTIONS(.stop_timeout_us = 50000));

    publish(e, "a", "", 1);
    h->until = 1;
    drive_one(w, holds, h);
    tl_worker_stop(w);
    assert_int_equal(tl_worker_run(w), TL_E_TIMEOUT);
    assert_int_equal(number(e, "select count(*) from trunkline.leases where held"), 1);
    tl_worker_free(w);
    free(h);
}

/* SUB-7, WRK-6 */
static void handlers_come_and_go_at_run_time(void **state)
{
    struct env *e = *state;
    struct seen s = {.until = 3};
    struct seen t = {.until = 2};
    tl_worker *w = new_worker(e->client, NULL, NULL);

    assert_int_equal(tl_worker_handle(w, "x/y", see_it, &s, NULL), TL_E_NOTFOUND);
    assert_string_equal(tl_error_message(tl_worker_error(w)),
                        "subscription \"x/y\" does not exist");
    test_db_exec(e->admin, "select trunkline.subscribe('x/y', 'a', start_at => 'beginning')");
    publish(e, "a", "", 3);
    assert_int_equal(tl_worker_handle(w, "x/y", see_it, &s, NULL), TL_OK);
    drive_one(w, has_seen, &s);
    assert_int_equal(tl_worker_forget(w, "x/y"), TL_OK);
    assert_int_equal(tl_worker_forget(w, "x/y"), TL_E_NOTFOUND);
    publish(e, "a", "", 2);
    drive_one(w, is_settled, e);
    assert_int_equal(s.count, 3);
    assert_int_equal(tl_worker_handle(w, "x/y", see_it, &t, TL_HANDLE_OPTIONS(.concurrency = 1)),
                     TL_OK);
    drive_one(w, has_seen, &t);
    drive_one(w, is_settled, e);
    assert_int_equal(s.count, 3);
    /* gone while served: the worker does not mind */
    test_db_exec(e->admin, "select trunkline.unsubscribe('x/y', true)");
    test_db_exec(e->admin, "select trunkline.subscribe('x/z', 'a', start_at => 'beginning')");
    assert_int_equal(tl_worker_handle(w, "x/z", see_it, &t, NULL), TL_OK);
    t.until = 7;
    drive_one(w, has_seen, &t);
    tl_worker_free(w);
}

/* WRK-4, RET-5, WRK-10: a stalled worker loses its lease; what it says later changes nothing */
static void lease_is_taken_over_and_the_old_owner_fenced(void **state)
{
    struct env *e = *state;
    struct held *h = calloc(1, sizeof *h);
    struct held *k = calloc(1, sizeof *k);
    tl_client *other = open_client(e->conninfo);
    tl_worker *a =
        simple_worker(e->client, hold, h, TL_ORDERING_KEY, false,
                      TL_WORKER_OPTIONS(.lease_us = 2 * SECOND_US, .poll_interval_us = NO_POLL_US));
    tl_worker *b;

    publish(e, "a", "", 1);
    h->until = 1;
    drive_one(a, holds, h);
    /* a stalls: nobody calls its process; the lease's end is all that can wake b */
    b = simple_worker(other, hold, k, TL_ORDERING_KEY, false,
                      TL_WORKER_OPTIONS(.poll_interval_us = NO_POLL_US));
    k->until = 1;
    drive_one(b, holds, k);
    assert_int_equal(k->seen.attempts[0], 2);
    assert_string_equal(tl_delivery_id(h->deliveries[0]), tl_delivery_id(k->deliveries[0]));
    complete_all(h, TL_FAIL); /* too late */
    for (int i = 0; i < 50; i++)
        assert_int_equal(tl_worker_process(a), TL_OK);
    assert_int_equal(number(e, "select count(*) from trunkline.leases where held"), 1);
    complete_all(k, TL_DONE);
    drive_one(b, is_settled, e);
    assert_int_equal(number(e, "select count(*) from trunkline.dead_letters"), 0);
    /* and the fenced one works on */
    tl_worker_stop(b);
    assert_int_equal(tl_worker_run(b), TL_OK);
    tl_worker_free(b);
    publish(e, "a", "", 1);
    drive_one(a, holds, h);
    complete_all(h, TL_DONE);
    drive_one(a, is_settled, e);
    tl_worker_free(a);
    tl_client_close(other);
    free(h);
    free(k);
}

/* The lease that was taken would have ended, had nobody extended it. */
static bool has_outlived_its_lease(void *arg)
{
    struct env *e = arg;

    return number(e, "select count(*) from first_lease where until < clock_timestamp()") > 0;
}

static bool are_two_left(void *arg)
{
    struct env *e = arg;

    return number(e, "select coalesce(sum(events), 0) from trunkline.leases") == 2;
}

/* RET-5: the heartbeat is separate from the lease */
static void lease_is_extended_while_a_handler_works(void **state)
{
    struct env *e = *state;
    struct held *h = calloc(1, sizeof *h);
    struct seen s = {0};
    tl_client *other = open_client(e->conninfo);
    tl_worker *workers[2];

    workers[0] = simple_worker(e->client, hold, h, TL_ORDERING_KEY, false,
                               TL_WORKER_OPTIONS(.lease_us = 5 * SECOND_US));
    publish(e, "a", "", 3);
    h->until = 3;
    drive_one(workers[0], holds, h);
    workers[1] = simple_worker(other, see_it, &s, TL_ORDERING_KEY, false,
                               TL_WORKER_OPTIONS(.poll_interval_us = 50000));
    test_db_exec(e->admin, "create table first_lease as select until from trunkline.leases");
    drive(workers, 2, has_outlived_its_lease, e);
    assert_int_equal(s.count, 0);
    assert_int_equal(number(e, "select count(*) from trunkline.leases l join first_lease f on "
                               "l.until > f.until where l.held"),
                     1); /* it is not that the other was too slow to take it */
    /* progress is written down at half the lease */
    tl_delivery_complete(h->deliveries[0], TL_DONE);
    drive(workers, 2, are_two_left, e);
    tl_delivery_complete(h->deliveries[1], TL_DONE);
    tl_delivery_complete(h->deliveries[2], TL_DONE);
    drive(workers, 2, is_settled, e);
    assert_int_equal(s.count, 0);
    tl_worker_free(workers[0]);
    tl_worker_free(workers[1]);
    tl_client_close(other);
    free(h);
}

static bool has_reconnected(void *arg)
{
    return stats_of(arg).reconnects > 0;
}

/* WAK-4, RET-8: the connection dies with a lease in hand; its ack follows, no handler runs twice */
static void reconnects_and_settles_what_it_held(void **state)
{
    struct env *e = *state;
    struct held *h = calloc(1, sizeof *h);
    tl_worker *w = simple_worker(e->client, hold, h, TL_ORDERING_KEY, false,
                                 TL_WORKER_OPTIONS(.poll_interval_us = NO_POLL_US));

    publish(e, "a", "k", 2);
    h->until = 1;
    drive_one(w, holds, h);
    test_db_exec(e->admin, "select pg_terminate_backend(pid) from pg_stat_activity "
                           "where datname = current_database() and pid <> pg_backend_pid()");
    complete_all(h, TL_DONE); /* the second of the key follows without a connection */
    drive_one(w, holds, h);
    complete_all(h, TL_RETRY);
    publish(e, "a", "k", 1); /* while nobody listens */
    drive_one(w, has_reconnected, w);
    h->until = 2;
    while (h->seen.count < 4) {
        h->until = 1;
        drive_one(w, holds, h);
        complete_all(h, TL_DONE);
    }
    drive_one(w, is_settled, e);
    assert_int_equal(h->seen.count, 4); /* 1, 2, 2 again, 3 */
    assert_int_equal(number(e, "select count(*) from trunkline.dead_letters"), 0);
    assert_int_equal(stats_of(w).reconnects, 1);
    assert_int_equal(stats_of(w).done, 3);
    tl_worker_free(w);
    free(h);
}

/* WAK-4 */
static void gives_up_after_reconnect_attempts(void **state)
{
    struct env *e = *state;
    struct seen s = {0};
    tl_client *c;
    tl_worker *w;
    char *gone = strdup(e->conninfo);
    tl_status status = TL_OK;

    assert_int_equal(
        tl_client_open(gone, TL_CLIENT_OPTIONS(.reconnect_attempts = 2, .reconnect_base_us = 1000),
                       &c),
        TL_OK);
    w = simple_worker(c, see_it, &s, TL_ORDERING_KEY, false, NULL);
    test_db_exec(e->admin, "select pg_terminate_backend(pid) from pg_stat_activity "
                           "where datname = current_database() and pid <> pg_backend_pid()");
    {
        char sql[128];
        PGconn *root = test_db_connect(getenv("TRUNKLINE_TEST_DB"));

        snprintf(sql, sizeof sql, "alter database %s allow_connections false",
                 strstr(gone, "dbname=") + 7);
        test_db_exec(root, sql);
        status = tl_worker_run(w);
        snprintf(sql, sizeof sql, "alter database %s allow_connections true",
                 strstr(gone, "dbname=") + 7);
        test_db_exec(root, sql);
        PQfinish(root);
    }
    assert_int_equal(status, TL_E_CONNECTION);
    assert_int_equal(tl_error_status(tl_worker_error(w)), TL_E_CONNECTION);
    tl_worker_free(w);
    tl_client_close(c);
    free(gone);
}

struct turns {
    char order[2000];
    int count;
    int until;
};

struct turn_of {
    struct turns *turns;
    char name;
};

static tl_verdict take_turn(tl_delivery *d, void *userdata)
{
    struct turn_of *t = userdata;

    (void)d;
    t->turns->order[t->turns->count++] = t->name;
    return TL_DONE;
}

static bool has_turns(void *arg)
{
    struct turns *t = arg;

    return t->count >= t->until;
}

/* SUB-3: higher priority first, and nobody starves: at most 8 times the other priorities between
 * two turns */
static void priorities_are_weighted_and_nobody_starves(void **state)
{
    struct env *e = *state;
    struct turns turns = {.until = 1200};
    struct turn_of high = {&turns, 'h'}, middle = {&turns, 'm'}, low = {&turns, 'l'};
    tl_subscribe_options options = subscribe_options(TL_ORDERING_KEY);
    tl_router *r = new_router();
    tl_worker *w;
    int gap = 0;
    int lows = 0;

    publish(e, "a", "", 400);
    options.priority = 1;
    assert_int_equal(
        tl_router_on(r, "**", take_turn, &low, TL_ROUTE_OPTIONS(.name = "l", .subscribe = options)),
        TL_OK);
    options.priority = 10;
    assert_int_equal(tl_router_on(r, "**", take_turn, &high,
                                  TL_ROUTE_OPTIONS(.name = "h", .subscribe = options)),
                     TL_OK);
    options.priority = 5;
    assert_int_equal(tl_router_on(r, "**", take_turn, &middle,
                                  TL_ROUTE_OPTIONS(.name = "m", .subscribe = options)),
                     TL_OK);
    w = new_worker(e->client, r, TL_WORKER_OPTIONS(.claim_batch = 1000));
    tl_router_free(r);
    drive_one(w, has_turns, &turns);
    assert_int_equal(turns.order[0], 'h');
    for (int i = 0; i < turns.count && lows < 400; i++) {
        gap = turns.order[i] == 'l' ? 0 : gap + 1;
        lows += turns.order[i] == 'l';
        assert_true(gap <= 8 * (10 + 5));
    }
    tl_worker_free(w);
}

/* WRK-3 */
static void bad_options_are_refused(void **state)
{
    struct env *e = *state;
    struct seen s = {0};
    tl_router *r = new_router();
    tl_worker *w = NULL;

    assert_int_equal(tl_router_on(r, "a", see_it, &s, NULL), TL_OK);
    assert_int_equal(tl_worker_new(e->client, "m", r, TL_WORKER_OPTIONS(.concurrency = 1001), &w),
                     TL_E_INVALID);
    assert_int_equal(tl_worker_new(e->client, "m", r, TL_WORKER_OPTIONS(.claim_batch = 10001), &w),
                     TL_E_INVALID);
    assert_int_equal(tl_worker_new(e->client, "m", r, TL_WORKER_OPTIONS(.lease_us = 1), &w),
                     TL_E_INVALID);
    assert_int_equal(tl_worker_new(e->client, "", r, NULL, &w), TL_E_INVALID);
    assert_string_equal(tl_error_message(tl_client_error(e->client)), "module has no name");
    assert_null(w);
    tl_router_free(r);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, env_setup, env_teardown)
    const struct CMUnitTest tests[] = {
        TEST(gives_the_event_as_published),
        TEST(delivers_in_order_history_then_live),
        TEST(a_rare_type_is_found_behind_a_long_backlog),
        TEST(two_workers_share),
        TEST(retries_then_dead_letter),
        TEST(verdicts_are_kept),
        TEST(pending_deliveries_keep_the_order_of_keys),
        TEST(total_order_runs_one_at_a_time),
        TEST(one_failing_handler_leaves_the_others_alone),
        TEST(stop_drains_and_releases),
        TEST(what_is_released_wakes_another_worker),
        TEST(a_hung_subscription_holds_up_only_itself),
        TEST(stop_gives_up_at_its_time_limit),
        TEST(handlers_come_and_go_at_run_time),
        TEST(lease_is_taken_over_and_the_old_owner_fenced),
        TEST(lease_is_extended_while_a_handler_works),
        TEST(reconnects_and_settles_what_it_held),
        TEST(gives_up_after_reconnect_attempts),
        TEST(priorities_are_weighted_and_nobody_starves),
        TEST(bad_options_are_refused),
    };

    return cmocka_run_group_tests_name("worker_delivery", tests, NULL, NULL);
}
