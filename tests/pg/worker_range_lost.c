/*
 * worker_range_lost.c: what can go wrong between the lease of a range and its events: other leases in the same
 * answer, a connection that dies under the read, no memory, an end before the events have come.
 */
#include "worker_env.h"

#include <stdlib.h>
#include <sys/socket.h>

/* its last bits look like those of a shared claim's members */
enum { BACKLOG = 6003, MOST = 20000 };

/* ------------------------------------------------------------------------------------ faults -- */

/* libpq and calloc, between the library and us (meson.build wraps them). */
static int cut_at;        /* the so many-th read of a range: 0: none */
static int reads;         /* of ranges */
static bool is_read;      /* what is being sent is one */
static bool is_refused;   /* libpq takes none of them */
static int refuse_in;     /* libpq refuses the so many-th call from now, and lives on; 0: none */
static bool is_of_syncs;  /* calls for a sync; else of a prepared statement */
static int failing_bytes; /* allocations of so many flags or more fail: 0: none */

int __real_PQsendQueryParams(PGconn *conn, const char *sql, int n, const Oid *types,
                             const char *const *values, const int *lengths, const int *formats,
                             int result_format);
int __wrap_PQsendQueryParams(PGconn *conn, const char *sql, int n, const Oid *types,
                             const char *const *values, const int *lengths, const int *formats,
                             int result_format);
int __real_PQsendQueryPrepared(PGconn *conn, const char *name, int n, const char *const *values,
                               const int *lengths, const int *formats, int result_format);
int __wrap_PQsendQueryPrepared(PGconn *conn, const char *name, int n, const char *const *values,
                               const int *lengths, const int *formats, int result_format);
int __real_PQpipelineSync(PGconn *conn);
int __wrap_PQpipelineSync(PGconn *conn);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);

int __wrap_PQsendQueryParams(PGconn *conn, const char *sql, int n, const Oid *types,
                             const char *const *values, const int *lengths, const int *formats,
                             int result_format)
{
    is_read = strstr(sql, "then 0 end from") != NULL;
    reads += is_read;
    if (is_read && is_refused)
        return 0;
    return __real_PQsendQueryParams(conn, sql, n, types, values, lengths, formats, result_format);
}

static bool is_turn_to_refuse(bool is_sync)
{
    return is_sync == is_of_syncs && refuse_in > 0 && --refuse_in == 0;
}

int __wrap_PQsendQueryPrepared(PGconn *conn, const char *name, int n, const char *const *values,
                               const int *lengths, const int *formats, int result_format)
{
    if (is_turn_to_refuse(false))
        return 0;
    return __real_PQsendQueryPrepared(conn, name, n, values, lengths, formats, result_format);
}

int __wrap_PQpipelineSync(PGconn *conn)
{
    if (is_turn_to_refuse(true))
        return 0;
    if (is_read && reads == cut_at)
        (void)shutdown(PQsocket(conn), SHUT_RDWR);
    is_read = false;
    return __real_PQpipelineSync(conn);
}

void *__wrap_calloc(size_t n, size_t size)
{
    if (failing_bytes > 0 && size == 1 && n >= (size_t)failing_bytes) {
        failing_bytes = 0;
        return NULL;
    }
    return __real_calloc(n, size);
}

/* ------------------------------------------------------------------------------------- ledger -- */

struct book {
    struct env *env;
    const char *type; /* that it subscribed to, by its topic */
    int count;
    int foreign;
    bool publishes; /* to bus, now and then */
    uint8_t times[MOST + 1];
};

static tl_verdict enter(tl_delivery *d, void *userdata)
{
    struct book *b = userdata;
    const tl_event *e = tl_delivery_event(d);

    if (strcmp(tl_event_type(e), b->type) == 0)
        b->times[tl_event_position(e)]++;
    else
        b->foreign++;
    if (++b->count % 1000 == 999 && b->publishes)
        test_db_exec(b->env->admin, "insert into trunkline.topic_bus (type, data, key) "
                                    "select 'a.b', '{}', 'k' from generate_series(1, 3)");
    return TL_DONE;
}

static bool is_settled(void *arg)
{
    struct env *e = arg;

    return number(e, "select (select count(*) from trunkline.leases) + (select count(*) from "
                     "trunkline.retries) + (select count(*) from trunkline.subscription_status "
                     "where behind > 0)") == 0;
}

static void backlog(struct env *e, const char *topic, const char *type)
{
    char sql[256];

    snprintf(sql, sizeof sql,
             "insert into trunkline.topic_%s (type, data, key) select '%s', '{}', 'k' || i %% 7 "
             "from generate_series(1, %d) i",
             topic, type, BACKLOG);
    test_db_exec(e->admin, sql);
}

static void route(tl_router *r, const char *topic, const char *name, struct book *b)
{
    tl_subscribe_options options = subscribe_options(TL_ORDERING_KEY);

    options.topic = topic;
    assert_int_equal(
        tl_router_on(r, "**", enter, b, TL_ROUTE_OPTIONS(.name = name, .subscribe = options)),
        TL_OK);
}

static void assert_all(const struct book *b, int64_t last, int most)
{
    assert_int_equal(b->foreign, 0);
    for (int64_t p = 1; p <= last; p++)
        assert_in_range(b->times[p], 1, most);
}

/* -------------------------------------------------------------------------------------- tests -- */

/* SUB-3: one answer has a shared claim of two and, right behind it, the range of another topic's */
static void a_range_behind_a_shared_claim_is_its_own(void **state)
{
    struct env *e = *state;
    struct book *b = calloc(3, sizeof *b);
    tl_router *r = new_router();
    tl_worker *w;

    for (int i = 0; i < 3; i++)
        b[i] = (struct book){.env = e, .type = i < 2 ? "a.b" : "c.d", .publishes = i == 2};
    test_db_exec(e->admin, "select trunkline.create_topic('other')");
    backlog(e, "other", "c.d");
    route(r, NULL, "a", &b[0]);
    route(r, NULL, "b", &b[1]);
    route(r, "other", "c", &b[2]);
    w = new_worker(e->client, r, NULL);
    tl_router_free(r);
    reads = 0;
    drive_one(w, is_settled, e);
    assert_true(reads > 0); /* or nothing was shown */
    assert_all(&b[2], BACKLOG, 1);
    assert_int_equal(b[2].count, BACKLOG);
    for (int i = 0; i < 2; i++) {
        assert_all(&b[i], number(e, "select count(*) from trunkline.topic_bus"), 1);
        assert_true(b[i].count > 0);
    }
    tl_worker_free(w);
    free(b);
}

/* WAK-3: the read, or that ahead of its claim, is the last thing the connection takes */
static void a_connection_that_dies_under_a_read_loses_nothing(void **state)
{
    struct env *e = *state;
    struct book *b = calloc(1, sizeof *b);
    tl_router *r = new_router();
    tl_worker *w;

    backlog(e, "bus", "a.b");
    for (int at = 1; at <= 4; at++) {
        *b = (struct book){.env = e, .type = "a.b"};
        reads = 0;
        cut_at = at;
        if (at == 1)
            route(r, NULL, "a", b);
        else
            test_db_exec(e->admin, "select trunkline.reset('m/a', 'beginning')");
        w = new_worker(e->client, r, TL_WORKER_OPTIONS(.lease_us = 5000000));
        drive_one(w, is_settled, e);
        assert_true(reads >= at);
        assert_all(b, BACKLOG, 2);
        tl_worker_free(w);
    }
    cut_at = 0;
    tl_router_free(r);
    free(b);
}

/* One subscriber to a backlog of bus. */
static tl_worker *lone_worker(struct env *e, struct book *b, uint64_t lease_us)
{
    tl_router *r = new_router();
    tl_worker *w;

    *b = (struct book){.env = e, .type = "a.b"};
    backlog(e, "bus", "a.b");
    route(r, NULL, "a", b);
    w = new_worker(e->client, r, TL_WORKER_OPTIONS(.lease_us = lease_us));
    tl_router_free(r);
    return w;
}

static void without_memory_a_range_is_read_later(void **state)
{
    struct env *e = *state;
    struct book *b = calloc(1, sizeof *b);
    tl_worker *w = lone_worker(e, b, 5000000); /* it has to expire */

    failing_bytes = 256; /* the flags of a range: no claim of rows is as large at first */
    drive_one(w, is_settled, e);
    assert_int_equal(failing_bytes, 0); /* it did fail */
    assert_all(b, BACKLOG, 1);
    tl_worker_free(w);
    free(b);
}

static bool has_tried_to_read(void *arg)
{
    (void)arg;
    return reads > 0;
}

/* WRK-4: such a range is handed back, and no attempt counted */
static void an_unread_range_is_handed_back(void **state)
{
    struct env *e = *state;
    struct book *b = calloc(1, sizeof *b);
    tl_worker *w = lone_worker(e, b, 3600000000);

    reads = 0;
    is_refused = true;
    drive_one(w, has_tried_to_read, NULL);
    is_refused = false;
    assert_int_equal(
        number(e, "select count(*) from trunkline.leases where held and events is null"), 1);
    assert_int_equal(tl_worker_abandon(w), TL_OK);
    assert_int_equal(number(e, "select count(*) from trunkline.leases where held"), 0);
    assert_int_equal(number(e, "select count(*) from trunkline.leases where attempt > 1 or solo"),
                     0);
    tl_worker_free(w);
    free(b);
}

/* WAK-3: as when it has no memory; whose answer comes next must not be a guess */
static void what_libpq_refuses_costs_a_connection(void **state)
{
    struct env *e = *state;
    struct book *b = calloc(1, sizeof *b);
    tl_router *r = new_router();

    publish(e, "a.b", "k", 600);
    for (int at = 1; at <= 6; at++) {
        tl_worker *w;

        *b = (struct book){.env = e, .type = "a.b"};
        if (at == 1)
            route(r, NULL, "a", b);
        else
            test_db_exec(e->admin, "select trunkline.reset('m/a', 'beginning')");
        w = new_worker(e->client, r, TL_WORKER_OPTIONS(.lease_us = 5000000));
        is_of_syncs = at % 2 == 0;
        refuse_in = at;
        drive_one(w, is_settled, e);
        assert_int_equal(refuse_in, 0); /* it did */
        assert_all(b, 600, 2);
        assert_true(stats_of(w).reconnects > 0);
        tl_worker_free(w);
    }
    tl_router_free(r);
    free(b);
}

#define test(name) cmocka_unit_test_setup_teardown(name, env_setup, env_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(a_range_behind_a_shared_claim_is_its_own),
        test(a_connection_that_dies_under_a_read_loses_nothing),
        test(without_memory_a_range_is_read_later),
        test(an_unread_range_is_handed_back),
        test(what_libpq_refuses_costs_a_connection),
    };

    return cmocka_run_group_tests_name("worker_range_lost", tests, NULL, NULL);
}
