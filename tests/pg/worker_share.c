/*
 * worker_share.c: one log for many subscriptions, one subscription for many workers: a topic is read
 * once for all that wait at the same place (SUB-3, WRK-3), slots are shared out and taken over
 * (SUB-10, WRK-4).
 */
#include "worker_env.h"

static bool is_settled(void *arg)
{
    struct env *e = arg;

    return number(e, "select (select count(*) from trunkline.leases) + "
                     "(select count(*) from trunkline.retries) + (select count(*) from "
                     "trunkline.subscription_status where behind > 0)") == 0;
}

/* --------------------------------------------------------------------------------- fan-out -- */

enum { SUBSCRIPTIONS = 20, LOG = 4000 };

struct receiver {
    int64_t last;
    int count;
    int shift;    /* which events it wants: see wants() */
    uint64_t sum; /* of positions, or the set of them */
    struct fanout *all;
};

struct fanout {
    struct env *e;
    struct receiver receivers[SUBSCRIPTIONS];
    int total;
    int until;
};

static tl_verdict receive(tl_delivery *d, void *userdata)
{
    struct receiver *r = userdata;
    const tl_event *e = tl_delivery_event(d);
    int64_t position = tl_event_position(e);
    char text[64];

    snprintf(text, sizeof text, "{\"n\": %lld}", (long long)position);
    assert_string_equal(tl_event_data(e, NULL), text);
    assert_true(position > r->last);
    r->last = position;
    r->sum += (uint64_t)position;
    r->count++;
    r->all->total++;
    return TL_DONE;
}

/* Each once, in any order: ordering none promises none, least of all for what a crash left. */
static tl_verdict receive_once(tl_delivery *d, void *userdata)
{
    struct receiver *r = userdata;
    uint64_t bit = UINT64_C(1) << tl_event_position(tl_delivery_event(d));

    assert_true(tl_event_position(tl_delivery_event(d)) < 64);
    assert_int_equal(r->sum & bit, 0);
    r->sum |= bit;
    r->count++;
    return TL_DONE;
}

static bool has_total(void *arg)
{
    const struct fanout *f = arg;

    return f->total >= f->until;
}

static int64_t rows_read(struct env *e)
{
    return number(e, "select coalesce(sum(idx_tup_fetch + seq_tup_read), 0) from "
                     "pg_stat_user_tables where schemaname = 'trunkline' and relname ~ '^leaf_'");
}

/* The log: its data say its position. */
static void publish_numbered(struct env *e, int from, int count)
{
    char sql[512];

    snprintf(sql, sizeof sql,
             "insert into trunkline.topic_bus (type, tenant_id, data, key) select "
             "case i %% 3 when 0 then 'a.zero' when 1 then 'a.one' else 'b.two' end, "
             "case i %% 2 when 0 then 'even' else 'odd' end, jsonb_build_object('n', i), "
             "'k' || i %% 7 from generate_series(%d, %d) i",
             from, from + count - 1);
    test_db_exec(e->admin, sql);
}

/* WRK-3: 20 subscriptions cost one read of the log, not 20 */
static void a_topic_is_read_once_for_all(void **state)
{
    struct env *e = *state;
    struct fanout *f = calloc(1, sizeof *f);
    tl_subscribe_options options = subscribe_options(TL_ORDERING_KEY);
    tl_router *r = new_router();
    tl_worker *w;
    tl_client *c = open_client(e->conninfo);
    uint64_t give_up_us;
    int64_t before;

    *f = (struct fanout){.e = e, .until = LOG * SUBSCRIPTIONS};
    publish_numbered(e, 1, LOG);
    for (int i = 0; i < SUBSCRIPTIONS; i++) {
        char name[16];

        snprintf(name, sizeof name, "h%d", i);
        f->receivers[i].all = f;
        options.ordering = i % 4 == 3   ? TL_ORDERING_NONE
                           : i % 4 == 2 ? TL_ORDERING_TOTAL
                                        : TL_ORDERING_KEY;
        assert_int_equal(tl_router_on(r, "**", receive, &f->receivers[i],
                                      TL_ROUTE_OPTIONS(.name = name, .subscribe = options)),
                         TL_OK);
    }
    if (PQserverVersion(e->admin) >= 150000) /* the collector of 14 is told by itself */
        test_db_exec(e->admin, "select pg_stat_force_next_flush()");
    before = rows_read(e);
    w = new_worker(c, r, TL_WORKER_OPTIONS(.claim_batch = 200));
    tl_router_free(r);
    drive_one(w, has_total, f);
    drive_one(w, is_settled, e);
    for (int i = 0; i < SUBSCRIPTIONS; i++)
        assert_int_equal(f->receivers[i].count, LOG);
    tl_worker_free(w);
    tl_client_close(c); /* a backend that ends reports what it has read */
    give_up_us = clock_us() + DEADLINE_US;
    while (rows_read(e) - before < LOG)
        assert_true(clock_us() < give_up_us);
    /* Once, when nothing stalls: who falls behind on a busy machine is read for by itself. */
    assert_true(rows_read(e) - before < SUBSCRIPTIONS / 2 * LOG);
    free(f);
}

/* Each gets what its pattern, tenant and filter say, and nothing else. */
static void a_shared_read_keeps_subscriptions_apart(void **state)
{
    static const struct {
        const char *name, *pattern, *tenant, *filter, *filter_path, *sql;
    } all[] = {
        {"all", "**", NULL, NULL, NULL, "true"},
        {"a", "a.*", NULL, NULL, NULL, "type like 'a.%'"},
        {"one", "a.one", NULL, NULL, NULL, "type = 'a.one'"},
        {"odd", "**", "odd", NULL, NULL, "tenant_id = 'odd'"},
        {"none", "c.*", NULL, NULL, NULL, "false"},
        {"filter", "**", NULL, "{\"n\": 77}", NULL, "data @> '{\"n\": 77}'"},
        {"path", "b.*", "even", NULL, "$.n > 50",
         "type = 'b.two' and tenant_id = 'even' and "
         "(data ->> 'n')::int > 50"},
    };
    enum { COUNT = sizeof all / sizeof all[0] };
    struct env *e = *state;
    struct fanout *f = calloc(1, sizeof *f);
    tl_router *r = new_router();
    tl_worker *w;

    *f = (struct fanout){.e = e};
    publish_numbered(e, 1, 500);
    for (int i = 0; i < COUNT; i++) {
        tl_subscribe_options options = subscribe_options(TL_ORDERING_KEY);

        f->receivers[i].all = f;
        options.tenant_id = all[i].tenant;
        options.filter = all[i].filter;
        options.filter_path = all[i].filter_path;
        assert_int_equal(tl_router_on(r, all[i].pattern, receive, &f->receivers[i],
                                      TL_ROUTE_OPTIONS(.name = all[i].name, .subscribe = options)),
                         TL_OK);
    }
    w = new_worker(e->client, r, TL_WORKER_OPTIONS(.claim_batch = 50));
    tl_router_free(r);
    drive_one(w, is_settled, e);
    publish_numbered(e, 501, 100); /* live */
    drive_one(w, is_settled, e);
    for (int i = 0; i < COUNT; i++) {
        char sql[300];

        snprintf(sql, sizeof sql, "select count(*) from trunkline.topic_bus where %s", all[i].sql);
        assert_int_equal(f->receivers[i].count, number(e, sql));
        snprintf(sql, sizeof sql,
                 "select coalesce(sum(\"position\"), 0) from trunkline.topic_bus where %s",
                 all[i].sql);
        assert_int_equal(f->receivers[i].sum, number(e, sql));
    }
    tl_worker_free(w);
    free(f);
}

struct moody {
    struct receiver *ok;
    int failures;
    tl_verdict verdict;
};

/* Fails each event of key k3 at its first attempt. */
static tl_verdict fail_first(tl_delivery *d, void *userdata)
{
    struct moody *m = userdata;

    if (strcmp(tl_event_key(tl_delivery_event(d)), "k3") == 0 && tl_delivery_attempt(d) == 1) {
        m->failures++;
        return m->verdict;
    }
    m->ok->count++;
    m->ok->all->total++;
    return TL_DONE;
}

/* WRK-9: three share a read, one fails: two run once each */
static void a_failure_in_a_shared_read_is_its_own(void **state)
{
    static const tl_verdict verdicts[] = {TL_RETRY, TL_FAIL, TL_SKIP};
    struct env *e = *state;
    struct fanout *f = calloc(1, sizeof *f);
    struct moody moody[3];
    tl_router *r = new_router();
    tl_worker *w;

    *f = (struct fanout){.e = e};
    publish_numbered(e, 1, 70);
    for (int i = 0; i < 5; i++) {
        char name[16];

        snprintf(name, sizeof name, "h%d", i);
        f->receivers[i].all = f;
        if (i < 3)
            moody[i] = (struct moody){&f->receivers[i], 0, verdicts[i]};
        assert_int_equal(tl_router_on(r, "**", i < 3 ? fail_first : receive,
                                      i < 3 ? (void *)&moody[i] : (void *)&f->receivers[i],
                                      TL_ROUTE_OPTIONS(.name = name, .subscribe = subscribe_options(
                                                                         TL_ORDERING_KEY))),
                         TL_OK);
    }
    w = new_worker(e->client, r, TL_WORKER_OPTIONS(.claim_batch = 30));
    tl_router_free(r);
    drive_one(w, is_settled, e);
    for (int i = 0; i < 3; i++)
        assert_int_equal(moody[i].failures, 10);
    assert_int_equal(f->receivers[0].count, 70);
    assert_int_equal(f->receivers[1].count, 60);
    assert_int_equal(f->receivers[2].count, 60);
    assert_int_equal(f->receivers[3].count, 70);
    assert_int_equal(f->receivers[4].count, 70);
    assert_int_equal(number(e, "select count(*) from trunkline.dead_letters where reason = "
                               "'rejected' and subscription = 'm/h1'"),
                     10);
    assert_int_equal(number(e, "select count(*) from trunkline.dead_letters"), 10);
    tl_worker_free(w);
    free(f);
}

struct crash {
    tl_delivery *held[400];
    int count;
    struct receiver *r;
};

static tl_verdict hold(tl_delivery *d, void *userdata)
{
    struct crash *c = userdata;

    if (tl_event_position(tl_delivery_event(d)) <= 3)
        return TL_DONE;
    assert_true(c->count < 400);
    c->held[c->count++] = d;
    return TL_PENDING;
}

static bool holds_all(void *arg)
{
    struct fanout *f = arg;

    return f->total >= f->until;
}

static tl_verdict hold_and_count(tl_delivery *d, void *userdata)
{
    struct crash *c = userdata;
    tl_verdict verdict = hold(d, c);

    c->r->all->total++;
    return verdict;
}

/* WRK-4: what a process held of a shared read is taken over, part of it or all */
static void leases_of_a_shared_read_are_taken_over(void **state)
{
    struct env *e = *state;
    struct fanout *f = calloc(1, sizeof *f);
    struct crash *crashes = calloc(3, sizeof *crashes);
    tl_router *r = new_router();
    tl_worker *w;

    *f = (struct fanout){.e = e, .until = 3 * 10};
    publish_numbered(e, 1, 10);
    for (int i = 0; i < 3; i++) {
        char name[16];

        snprintf(name, sizeof name, "h%d", i);
        f->receivers[i].all = f;
        crashes[i].r = &f->receivers[i];
        assert_int_equal(tl_router_on(r, "**", hold_and_count, &crashes[i],
                                      TL_ROUTE_OPTIONS(.name = name, .subscribe = subscribe_options(
                                                                         TL_ORDERING_NONE))),
                         TL_OK);
    }
    w = new_worker(e->client, r, TL_WORKER_OPTIONS(.concurrency = 100));
    drive_one(w, holds_all, f);
    /* one of the three goes on to the end, the others are lost on their way */
    for (int i = 0; i < crashes[0].count; i++)
        tl_delivery_complete(crashes[0].held[i], TL_DONE);
    assert_int_equal(tl_worker_process(w), TL_OK);
    while (number(e, "select count(*) from trunkline.leases") > 2)
        assert_int_equal(tl_worker_process(w), TL_OK);
    tl_worker_free(w);
    /* sooner than by themselves, so that none of them ran out while it was alive */
    test_db_exec(e->admin, "update trunkline.leases set until = clock_timestamp()");
    tl_router_free(r);
    r = new_router();
    f->total = 0;
    for (int i = 0; i < 3; i++) {
        char name[16];

        snprintf(name, sizeof name, "h%d", i);
        f->receivers[i] = (struct receiver){.all = f};
        assert_int_equal(tl_router_on(r, "**", receive_once, &f->receivers[i],
                                      TL_ROUTE_OPTIONS(.name = name, .subscribe = subscribe_options(
                                                                         TL_ORDERING_NONE))),
                         TL_OK);
    }
    w = new_worker(e->client, r, NULL);
    tl_router_free(r);
    drive_one(w, is_settled, e);
    assert_int_equal(f->receivers[0].count, 0);
    assert_int_equal(f->receivers[1].count, 10);
    assert_int_equal(f->receivers[2].count, 10);
    tl_worker_free(w);
    free(crashes);
    free(f);
}

/* SUB-3: a slow one does not hold up those that share its read */
static void a_slow_one_leaves_the_others_alone(void **state)
{
    struct env *e = *state;
    struct fanout *f = calloc(1, sizeof *f);
    struct crash *slow = calloc(1, sizeof *slow);
    tl_router *r = new_router();
    tl_worker *w;

    *f = (struct fanout){.e = e, .until = 2 * 1000};
    publish_numbered(e, 1, 1000);
    for (int i = 0; i < 3; i++) {
        char name[16];

        snprintf(name, sizeof name, "h%d", i);
        f->receivers[i].all = f;
        assert_int_equal(
            tl_router_on(
                r, "**", i == 0 ? hold : receive, i == 0 ? (void *)slow : (void *)&f->receivers[i],
                TL_ROUTE_OPTIONS(.name = name, .subscribe = subscribe_options(TL_ORDERING_KEY))),
            TL_OK);
    }
    w = new_worker(
        e->client, r,
        TL_WORKER_OPTIONS(.claim_batch = 20, .poll_interval_us = NO_POLL_US, .concurrency = 1000));
    tl_router_free(r);
    drive_one(w, has_total, f);
    assert_true(slow->count <= 20);
    tl_worker_free(w);
    free(slow);
    free(f);
}

/* ----------------------------------------------------------------------------------- slots -- */

enum { SLOTS = 16, WORKERS = 3 };

struct slots;
struct slot_worker {
    struct slots *s;
    int number;
};

struct slots {
    struct env *e;
    struct slot_worker who[WORKERS];
    tl_worker *workers[WORKERS];
    tl_client *clients[WORKERS];
    tl_delivery *held[400];
    int held_by[400]; /* number of the worker */
    int held_count;
    bool is_held; /* handlers keep what they get */
    bool is_key_busy[200];
    int done[2000];
    int done_count;
    int until;
};

static int key_number(const tl_delivery *d)
{
    return (int)strtol(tl_event_key(tl_delivery_event(d)) + 1, NULL, 10);
}

static void note_done(struct slots *s, const tl_delivery *d)
{
    if (s->done[tl_event_position(tl_delivery_event(d))]++ == 0)
        s->done_count++;
}

static void complete(struct slots *s, tl_delivery *d)
{
    s->is_key_busy[key_number(d)] = false;
    note_done(s, d);
    tl_delivery_complete(d, TL_DONE);
}

static tl_verdict work(tl_delivery *d, void *userdata)
{
    const struct slot_worker *me = userdata;
    struct slots *s = me->s;
    int key = key_number(d);

    assert_false(s->is_key_busy[key]);
    if (s->is_held && s->held_count < 400) {
        s->is_key_busy[key] = true;
        s->held_by[s->held_count] = me->number;
        s->held[s->held_count++] = d;
        return TL_PENDING;
    }
    note_done(s, d);
    return TL_DONE;
}

static bool are_all_slots_taken(void *arg)
{
    struct slots *s = arg;

    return number(s->e, "select count(distinct slot) from trunkline.leases where held and until > "
                        "clock_timestamp()") == SLOTS;
}

static bool are_done(void *arg)
{
    struct slots *s = arg;

    return s->done_count >= s->until;
}

static void publish_keys(struct env *e, int count)
{
    char sql[256];

    snprintf(sql, sizeof sql,
             "insert into trunkline.topic_bus (type, data, key) select 'a', '{}', 'k' || i %% 160 "
             "from generate_series(1, %d) i",
             count);
    test_db_exec(e->admin, sql);
}

static bool are_listening(void *arg)
{
    struct slots *s = arg;

    for (int i = 0; i < WORKERS; i++) {
        if (!stats_of(s->workers[i]).is_listening)
            return false;
    }
    return true;
}

static void open_slots(struct slots *s, struct env *e)
{
    tl_subscribe_options options = subscribe_options(TL_ORDERING_KEY);

    *s = (struct slots){.e = e};
    options.slots = SLOTS;
    assert_int_equal(tl_subscribe(e->client, "m/h", "**", &options), TL_OK);
    for (int i = 0; i < WORKERS; i++) {
        char module[8]; /* says in the leases which worker it is */

        snprintf(module, sizeof module, "m%d", i);
        s->clients[i] = open_client(e->conninfo);
        assert_int_equal(tl_worker_new(s->clients[i], module, NULL,
                                       TL_WORKER_OPTIONS(.concurrency = 1000, .claim_batch = 100),
                                       &s->workers[i]),
                         TL_OK);
        s->who[i] = (struct slot_worker){s, i};
        assert_int_equal(tl_worker_handle(s->workers[i], "m/h", work, &s->who[i], NULL), TL_OK);
    }
}

static void close_slots(struct slots *s)
{
    for (int i = 0; i < WORKERS; i++) {
        tl_worker_free(s->workers[i]);
        tl_client_close(s->clients[i]);
    }
    free(s);
}

/* SUB-10, WRK-4: each of three gets some; what one leaves behind, the others take over */
static void slots_are_shared_out_and_taken_over(void **state)
{
    struct env *e = *state;
    struct slots *s = calloc(1, sizeof *s);

    open_slots(s, e);
    drive(s->workers, WORKERS, are_listening, s); /* none comes too late for its share */
    s->is_held = true;
    publish_keys(e, 320);
    drive(s->workers, WORKERS, are_all_slots_taken, s);
    for (int i = 0; i < WORKERS; i++)
        assert_true(stats_of(s->workers[i]).in_flight > 0);
    /* as by kill -9: what it held comes to nothing, its leases run out (here at once, while those of
     * the others cannot, however slow the machine) */
    s->workers[0] = tl_worker_free(s->workers[0]);
    test_db_exec(e->admin,
                 "update trunkline.leases set until = clock_timestamp() where owner like 'm0 %'");
    s->is_held = false;
    for (int i = 0; i < s->held_count; i++) {
        if (s->held_by[i] != 0)
            complete(s, s->held[i]);
    }
    memset(s->is_key_busy, 0, sizeof s->is_key_busy);
    s->until = 320;
    drive(s->workers, WORKERS, are_done, s);
    drive(s->workers, WORKERS, is_settled, e);
    close_slots(s);
}

/* SUB-10: about the same number for each while all have work */
static void slots_are_shared_about_equally(void **state)
{
    struct env *e = *state;
    struct slots *s = calloc(1, sizeof *s);
    long least = SLOTS;

    open_slots(s, e);
    drive(s->workers, WORKERS, are_listening, s);
    s->is_held = true;
    publish_keys(e, 320); /* two of each key: one in flight, one waits behind it */
    drive(s->workers, WORKERS, are_all_slots_taken, s);
    for (int i = 0; i < WORKERS; i++) {
        long in_flight = (long)stats_of(s->workers[i]).in_flight;

        least = in_flight < least ? in_flight : least;
    }
    /* 160 keys, 10 a slot on average: at least three slots' worth */
    assert_true(least >= 20 || least == SLOTS);
    close_slots(s);
}

/* One worker holds several slots, and no key runs twice at once. */
static void one_worker_holds_several_slots(void **state)
{
    struct env *e = *state;
    struct slots *s = calloc(1, sizeof *s);

    open_slots(s, e);
    s->is_held = true;
    publish_keys(e, 160);
    drive_one(s->workers[0], are_all_slots_taken, s);
    s->until = 160;
    while (!are_done(s)) {
        for (int i = 0; i < s->held_count; i++)
            complete(s, s->held[i]);
        s->held_count = 0;
        assert_int_equal(tl_worker_process(s->workers[0]), TL_OK);
    }
    s->is_held = false;
    publish_keys(e, 1000);
    s->until = 1160;
    drive_one(s->workers[0], are_done, s);
    drive_one(s->workers[0], is_settled, e);
    assert_int_equal(s->done_count, 1160);
    close_slots(s);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, env_setup, env_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_topic_is_read_once_for_all),          TEST(a_shared_read_keeps_subscriptions_apart),
        TEST(a_failure_in_a_shared_read_is_its_own), TEST(leases_of_a_shared_read_are_taken_over),
        TEST(a_slow_one_leaves_the_others_alone),    TEST(slots_are_shared_out_and_taken_over),
        TEST(slots_are_shared_about_equally),        TEST(one_worker_holds_several_slots),
    };

    return cmocka_run_group_tests_name("worker_share", tests, NULL, NULL);
}
