/*
 * live.c: live subscriptions: who gets what, from where, and for how long (SUB-5, SUB-6, SUB-7, PAT-8, WAK-1,
 * WAK-3, WAK-7, RPL-2). The fallback poll is beyond every deadline unless a test says so. Joins under load
 * are in live_history.c, what a program's loop sees in live_loop.c, lost connections in e2e/live.t.
 */
#include "live_env.h"

#include <unistd.h>

#define ALL "select position from trunkline.topic_store"

/* SUB-6: history first, then what comes; each kind gets what is its own */
static void each_kind_gets_history_and_then_what_comes(void **state)
{
    struct env *e = *state;
    static struct seen one, cat, everything, typed;
    tl_live *live[4];

    memset(&one, 0, sizeof one);
    memset(&cat, 0, sizeof cat);
    memset(&everything, 0, sizeof everything);
    memset(&typed, 0, sizeof typed);
    store(e->admin, "order-1", "order.made", 2);
    store(e->admin, "order-2", "order.made", 1);
    store(e->admin, "orders-1", "order.made", 1);
    store(e->admin, "order", "note.x", 1);
    test_db_exec(e->admin,
                 "insert into trunkline.topic_store (type, data) values ('order.plain', '1')");
    live[0] = stream(e, "order-1", NULL, &one);
    live[1] = category(e, "order-*", NULL, &cat);
    live[2] = all(e, NULL, &everything);
    assert_status(e->c, tl_subscribe_type(e->c, "order.*", NULL, see, &typed, &live[3]), TL_OK);
    assert_int_equal(everything.count, 0);
    run_until_seen(e->c, &everything, 6);
    for (int i = 0; i < 4; i++)
        run_until(e->c, is_caught_up, live[i]);
    store(e->admin, "order-2", "order.sent", 1);
    store(e->admin, "order-1", "note.y", 2);
    store(e->admin, "x", "order.made", 1);
    run_until_seen(e->c, &everything, 10);
    run_until_seen(e->c, &one, 4);
    run_until_seen(e->c, &cat, 7);
    run_until_seen(e->c, &typed, 7);
    assert_saw(e->admin, &everything, ALL " order by 1");
    assert_saw(e->admin, &one, ALL " where stream = 'order-1' order by version");
    assert_saw(e->admin, &cat, ALL " where stream in ('order', 'order-1', 'order-2') order by 1");
    assert_saw(e->admin, &typed, ALL " where type like 'order.%' order by 1");
    assert_int_equal(tl_live_position(live[0]), 4);
    assert_int_equal(tl_live_position(live[1]), 10);
    for (int i = 0; i < 4; i++)
        assert_null(tl_live_stop(live[i]));
}

/* SUB-5: from a place, from the end; and tl_live_position() is such a place */
static void they_begin_where_they_are_told_to(void **state)
{
    struct env *e = *state;
    static struct seen s[4];
    int64_t version, position;
    tl_live *a, *b;

    memset(s, 0, sizeof s);
    store(e->admin, "order-1", "a", 5);
    a = stream(e, "order-1", TL_LIVE_OPTIONS(.after = 3), &s[0]);
    b = category(e, "order", TL_LIVE_OPTIONS(.after = 4), &s[1]);
    all(e, TL_LIVE_OPTIONS(.from_end = true), &s[2]);
    stream(e, "order-1", TL_LIVE_OPTIONS(.from_end = true), &s[3]);
    store(e->admin, "order-1", "a", 2);
    run_until_seen(e->c, &s[0], 4);
    run_until_seen(e->c, &s[1], 3);
    run_until_seen(e->c, &s[2], 2);
    run_until_seen(e->c, &s[3], 2);
    assert_int_equal(s[0].versions[0], 4);
    assert_int_equal(s[1].versions[0], 5);
    assert_int_equal(s[2].versions[0], 6);
    assert_int_equal(s[3].versions[0], 6);
    version = tl_live_position(a);
    position = tl_live_position(b);
    assert_int_equal(version, 7);
    assert_int_equal(position, 7);
    a = tl_live_stop(a);
    b = tl_live_stop(b);
    store(e->admin, "order-1", "a", 1);
    memset(s, 0, 2 * sizeof s[0]);
    stream(e, "order-1", TL_LIVE_OPTIONS(.after = version), &s[0]);
    category(e, "order", TL_LIVE_OPTIONS(.after = position), &s[1]);
    run_until_seen(e->c, &s[0], 1);
    run_until_seen(e->c, &s[1], 1);
    assert_int_equal(s[0].versions[0], 8);
    assert_int_equal(s[1].versions[0], 8);
}

/* PAT-7, PAT-8: all filters together, in history and after it */
static void filters_combine(void **state)
{
    struct env *e = *state;
    static struct seen s[5];
    const char *const types[] = {"a.x", "a.y", "b.x"};
    const char *sql =
        "select from unnest('{a.x,a.y,a.z,b.x,b.y.z}'::text[]) y, "
        "unnest('{t1,t2}'::text[]) t, lateral trunkline.append_event('o-' || t, y, '1', "
        "tenant_id => t)";

    memset(s, 0, sizeof s);
    test_db_exec(e->admin, sql);
    all(e, TL_LIVE_OPTIONS(.tenant_id = "t1"), &s[0]);
    all(e, TL_LIVE_OPTIONS(.types = types, .type_count = 3, .pattern = "*.x"), &s[1]);
    category(e, "o", TL_LIVE_OPTIONS(.pattern = "b.**", .tenant_id = "t2"), &s[2]);
    stream(e, "o-t1", TL_LIVE_OPTIONS(.types = types, .type_count = 2), &s[3]);
    stream(e, "o-t1", TL_LIVE_OPTIONS(.tenant_id = "t2"), &s[4]);
    run_until_seen(e->c, &s[0], 5);
    test_db_exec(e->admin, sql);
    run_until_seen(e->c, &s[0], 10);
    run_until_seen(e->c, &s[1], 8);
    run_until_seen(e->c, &s[2], 4);
    run_until_seen(e->c, &s[3], 4);
    assert_saw(e->admin, &s[0], ALL " where tenant_id = 't1' order by 1");
    assert_saw(e->admin, &s[1], ALL " where type in ('a.x', 'b.x') order by 1");
    assert_saw(e->admin, &s[2], ALL " where type ~ '^b' and tenant_id = 't2' order by 1");
    assert_saw(e->admin, &s[3], ALL " where type ~ '^a.[xy]' and tenant_id = 't1' order by 1");
    assert_int_equal(s[4].count, 0);
}

/* Of the past it gets what reads give: nothing that was deleted or trimmed; and then everything. */
static void deleted_and_trimmed_events_are_left_out(void **state)
{
    struct env *e = *state;
    static struct seen gone, trimmed, cat, everything;

    memset(&gone, 0, sizeof gone);
    memset(&trimmed, 0, sizeof trimmed);
    memset(&cat, 0, sizeof cat);
    memset(&everything, 0, sizeof everything);
    store(e->admin, "a-1", "x", 3);
    store(e->admin, "a-2", "x", 3);
    test_db_exec(e->admin, "select trunkline.delete_stream('a-1')");
    test_db_exec(e->admin, "select trunkline.set_stream('a-2', max_count => 1)");
    stream(e, "a-1", NULL, &gone);
    stream(e, "a-2", NULL, &trimmed);
    category(e, "a", NULL, &cat);
    all(e, NULL, &everything);
    run_until_seen(e->c, &everything, 6);
    run_until_seen(e->c, &trimmed, 1);
    run_until_seen(e->c, &cat, 1);
    assert_int_equal(gone.count, 0);
    assert_int_equal(trimmed.versions[0], 3);
    store(e->admin, "a-1", "x", 1);
    store(e->admin, "a-2", "x", 2);
    run_until_seen(e->c, &everything, 9);
    run_until_seen(e->c, &gone, 1);
    run_until_seen(e->c, &trimmed, 3);
    run_until_seen(e->c, &cat, 4);
    assert_int_equal(gone.versions[0], 4);
}

/* The server leaves out what nobody wants, whichever the filters are. */
static void only_what_somebody_wants_is_sent(void **state)
{
    struct env *e = *state;
    static struct seen s[3];
    tl_live_stats stats;
    tl_live *live[3];

    memset(s, 0, sizeof s);
    live[0] = stream(e, "rare-1", TL_LIVE_OPTIONS(.from_end = true), &s[0]);
    live[1] = category(e, "odd", TL_LIVE_OPTIONS(.from_end = true), &s[1]);
    assert_status(
        e->c,
        tl_subscribe_type(e->c, "rare.*", TL_LIVE_OPTIONS(.from_end = true), see, &s[2], &live[2]),
        TL_OK);
    for (int i = 0; i < 3; i++)
        run_until(e->c, is_caught_up, live[i]);
    for (int i = 0; i < 2; i++) /* more than one call looks at */
        store(e->admin, "x", "x", 6000);
    store(e->admin, "rare-1", "x", 1);
    store(e->admin, "odd-1", "x", 1);
    store(e->admin, "x", "rare.x", 1);
    for (int i = 0; i < 3; i++)
        run_until_seen(e->c, &s[i], 1);
    run_until(e->c, is_bell_armed, e->admin);
    tl_client_get_live_stats(e->c, &stats);
    assert_int_equal(stats.delivered, 3);
    assert_int_equal(stats.events, 3);
    assert_int_equal(tl_live_position(live[1]), 12003);
}

/* DESIGN 3.1: who commits late with an early position is not skipped by those that are live */
static void a_parked_writer_is_waited_for(void **state)
{
    struct env *e = *state;
    PGconn *parked = test_db_connect(e->conninfo);
    static struct seen everything, cat, one;
    tl_live *live;

    memset(&everything, 0, sizeof everything);
    memset(&cat, 0, sizeof cat);
    memset(&one, 0, sizeof one);
    live = all(e, NULL, &everything);
    store(e->admin, "a-1", "x", 1);
    run_until_seen(e->c, &everything, 1);
    test_db_exec(parked, "begin");
    store(parked, "a-2", "x", 1);
    store(e->admin, "a-3", "x", 1);
    category(e, "a", NULL, &cat);
    stream(e, "a-3", NULL, &one);
    run_until_seen(e->c, &cat, 1);
    run_until(e->c, is_caught_up, live);
    test_db_exec(parked, "commit");
    run_until_seen(e->c, &everything, 3);
    run_until_seen(e->c, &cat, 3);
    run_until_seen(e->c, &one, 1);
    assert_saw(e->admin, &everything, ALL " order by 1");
    assert_saw(e->admin, &cat, ALL " order by 1");
    PQfinish(parked);
}

/* ---------------------------------------------------------------------------- ends, handlers -- */

static void run_until_seen_by(tl_client *c, struct script *s, int count)
{
    run_until_seen(c, &s->seen, count);
}

/* SUB-7: what a handler returns ends its own subscription and no other */
static void a_handler_that_fails_ends_only_itself(void **state)
{
    struct env *e = *state;
    static struct script s;
    static struct seen other;
    tl_live *live, *rest;

    memset(&s, 0, sizeof s);
    memset(&other, 0, sizeof other);
    s.fail_at = 3;
    rest = all(e, NULL, &other);
    assert_status(e->c, tl_subscribe_all(e->c, TL_LIVE_OPTIONS(.ended = note_end), play, &s, &live),
                  TL_OK);
    store(e->admin, "a-1", "x", 5);
    run_until_seen(e->c, &other, 5);
    assert_int_equal(s.seen.count, 3);
    assert_int_equal(s.ended_calls, 1);
    assert_int_equal(s.ended_status, -77);
    assert_int_equal(tl_live_status(live), -77);
    assert_int_equal(tl_error_status(tl_live_error(live)), TL_E_CANCELLED);
    assert_int_equal(tl_live_position(live), 2);
    assert_int_equal(tl_live_status(rest), TL_OK);
    assert_int_equal(tl_live_position(rest), 5);
    tl_live_stop(rest);
    /* nothing is left to run; the handle of the ended one is still there */
    assert_status(e->c, tl_client_process(e->c), TL_NOTHING);
    assert_int_equal(tl_client_fd(e->c), -1);
    assert_true(tl_client_deadline_us(e->c) == UINT64_MAX);
    assert_int_equal(tl_live_position(live), 2);
    tl_live_stop(live);
}

/* When the last one is stopped its connection goes; who subscribes then gets another, which knows nothing of
 * the first */
static void subscribing_after_the_last_was_stopped(void **state)
{
    struct env *e = *state;
    static struct seen seen[2];
    tl_live *live[2];

    store(e->admin, "a-1", "x", 2);
    for (int i = 0; i < 3; i++) {
        memset(seen, 0, sizeof seen);
        live[0] = all(e, NULL, &seen[0]);
        live[1] = stream(e, "a-1", NULL, &seen[1]);
        run_until_seen(e->c, &seen[0], 2);
        run_until_seen(e->c, &seen[1], 2);
        for (int k = 0; k < 2; k++)
            assert_null(tl_live_stop(live[k]));
        assert_int_equal(tl_client_fd(e->c), -1);
    }
}

/* What a program does that wants to go on: it makes room for connections and subscribes anew. */
static void go_on(tl_live *live, int status, void *userdata)
{
    struct script *s = userdata;

    note_end(live, status, userdata);
    if (s->ended_calls > 1)
        return;
    test_db_exec(s->e->admin, "update pg_database set datallowconn = true where datname = "
                              "current_database()");
    assert_status(s->e->c,
                  tl_subscribe_all(s->e->c,
                                   TL_LIVE_OPTIONS(.after = tl_live_position(live), .ended = go_on),
                                   play, s, &s->other),
                  TL_OK);
    assert_null(tl_live_stop(live));
}

/* SUB-7: a subscription made while the ends are told is not one of those that end; it gets a connection of
 * its own and all events */
static void subscribing_when_the_connection_is_given_up(void **state)
{
    struct env *e = *state;
    static struct script s;
    tl_status status = TL_OK;
    tl_live *live;

    assert_null(tl_client_close(e->c));
    assert_int_equal(
        tl_client_open(e->conninfo,
                       TL_CLIENT_OPTIONS(.application_name = "live", .reconnect_attempts = 1,
                                         .reconnect_base_us = 1000, .log = print_log),
                       &e->c),
        TL_OK);
    memset(&s, 0, sizeof s);
    s.e = e;
    assert_status(e->c, tl_subscribe_all(e->c, TL_LIVE_OPTIONS(.ended = go_on), play, &s, &live),
                  TL_OK);
    store(e->admin, "a-1", "x", 2);
    run_until_seen_by(e->c, &s, 2);
    test_db_exec(e->admin, "update pg_database set datallowconn = false where datname = "
                           "current_database()");
    test_db_exec(e->admin, "select pg_terminate_backend(pid) from pg_stat_activity where "
                           "application_name = 'live' and datname = current_database()");
    while (status == TL_OK)
        status = turn(e->c);
    assert_int_equal(status, TL_E_CONNECTION);
    assert_int_equal(tl_error_status(tl_client_error(e->c)), TL_E_CONNECTION);
    assert_int_equal(s.ended_calls, 1);
    store(e->admin, "a-1", "x", 2);
    run_until_seen_by(e->c, &s, 4);
    assert_int_equal(tl_live_status(s.other), TL_OK);
    assert_saw(e->admin, &s.seen, ALL " order by 1");
}

static int stop_both(struct script *s, tl_live *live)
{
    s->other = tl_live_stop(s->other);
    assert_null(tl_live_stop(live));
    return 0;
}

/* SUB-7: no call-back after the stop, wherever it was called */
static void stopping_inside_a_handler(void **state)
{
    struct env *e = *state;
    static struct script s;
    static struct seen rest;
    tl_live *live;

    memset(&s, 0, sizeof s);
    memset(&rest, 0, sizeof rest);
    s.fail_at = 2;
    s.act = stop_both;
    assert_status(e->c, tl_subscribe_all(e->c, NULL, play, &s, &live), TL_OK);
    s.other = all(e, NULL, &s.other_seen);
    all(e, NULL, &rest);
    store(e->admin, "a-1", "x", 4);
    run_until_seen(e->c, &rest, 4);
    assert_int_equal(s.seen.count, 2);
    assert_int_equal(s.other_seen.count, 1);
    store(e->admin, "a-1", "x", 1);
    run_until_seen(e->c, &rest, 5);
    assert_int_equal(s.seen.count, 2);
    assert_int_equal(s.other_seen.count, 1);
}

static int subscribe_and_store(struct script *s, tl_live *live)
{
    (void)live;
    assert_status(s->e->c, tl_subscribe_all(s->e->c, NULL, see, &s->other_seen, &s->other), TL_OK);
    store(s->e->admin, "a-1", "x", 1);
    return 0;
}

static void subscribing_inside_a_handler(void **state)
{
    struct env *e = *state;
    static struct script s;
    tl_live *live;

    memset(&s, 0, sizeof s);
    s = (struct script){.e = e, .fail_at = 2, .act = subscribe_and_store};
    assert_status(e->c, tl_subscribe_all(e->c, NULL, play, &s, &live), TL_OK);
    store(e->admin, "a-1", "x", 4);
    run_until_seen_by(e->c, &s, 5);
    run_until_seen(e->c, &s.other_seen, 5);
    assert_saw(e->admin, &s.other_seen, ALL " order by 1");
}

static int misuse(struct script *s, tl_live *live)
{
    (void)live;
    assert_status(s->e->c, tl_client_process(s->e->c), TL_E_INVALID);
    assert_status(s->e->c, tl_client_run(s->e->c, 0), TL_E_INVALID);
    assert_ptr_equal(tl_client_close(s->e->c), s->e->c);
    assert_contains(tl_error_message(tl_client_error(s->e->c)), "handler");
    return 0;
}

static void what_a_handler_must_not_do_is_refused(void **state)
{
    struct env *e = *state;
    static struct script s;
    tl_live *live;

    memset(&s, 0, sizeof s);
    s = (struct script){.e = e, .fail_at = 1, .act = misuse};
    assert_status(e->c, tl_subscribe_all(e->c, NULL, play, &s, &live), TL_OK);
    store(e->admin, "a-1", "x", 2);
    run_until_seen_by(e->c, &s, 2);
}

static bool is_gone(void *db)
{
    return query_number(
               db, "select count(*) from pg_stat_activity where application_name = 'live' and "
                   "datname = current_database() and query ~ 'live_read|claim_many|bell'") == 0;
}

/* One read of a topic serves all; when the last subscription of it goes, it is read no more. */
static void topics_are_read_once_and_only_while_somebody_listens(void **state)
{
    struct env *e = *state;
    static struct seen s[3], bus;
    tl_live_stats before, after;
    tl_live *live[3], *other;

    memset(s, 0, sizeof s);
    memset(&bus, 0, sizeof bus);
    for (int i = 0; i < 3; i++)
        live[i] = all(e, TL_LIVE_OPTIONS(.from_end = true), &s[i]);
    other = all(e, TL_LIVE_OPTIONS(.topic = "bus", .from_end = true), &bus);
    for (int i = 0; i < 3; i++)
        run_until(e->c, is_caught_up, live[i]);
    run_until(e->c, is_bell_armed, e->admin);
    tl_client_get_live_stats(e->c, &before);
    assert_int_equal(before.feeds, 2);
    store(e->admin, "a-1", "x", 10);
    run_until_seen(e->c, &s[2], 10);
    tl_client_get_live_stats(e->c, &after);
    assert_int_equal(after.events - before.events, 10);
    assert_int_equal(after.delivered - before.delivered, 30);
    for (int i = 0; i < 3; i++)
        live[i] = tl_live_stop(live[i]);
    tl_client_get_live_stats(e->c, &before);
    assert_int_equal(before.feeds, 1);
    store(e->admin, "a-1", "x", 10);
    test_db_exec(e->admin, "insert into trunkline.topic_bus (type, data) values ('x', '1')");
    run_until_seen(e->c, &bus, 1);
    tl_client_get_live_stats(e->c, &after);
    assert_int_equal(after.events - before.events, 1);
    tl_live_stop(other);
    run_until(e->c, is_gone, e->admin);
}

/* ------------------------------------------------------------------------------ bad arguments -- */

static void bad_arguments_are_named(void **state)
{
    struct env *e = *state;
    const char *const bad_types[] = {"a", "b*"};
    struct {
        tl_live_options o;
        tl_status status;
        const char *word;
    } cases[] = {
        {{.after = -1}, TL_E_INVALID, "after"},
        {{.after = 1, .from_end = true}, TL_E_INVALID, "from_end"},
        {{.pattern = "a*"}, TL_E_INVALID, "pattern"},
        {{.types = bad_types, .type_count = 2}, TL_E_INVALID, "type"},
        {{.types = bad_types}, TL_E_INVALID, "type_count"},
        {{.type_count = 1}, TL_E_INVALID, "type_count"},
        {{.types = bad_types, .type_count = 1001}, TL_E_INVALID, "1000"},
        {{.tenant_id = ""}, TL_E_INVALID, "tenant_id"},
        {{.batch = TL_MAX_CLAIM + 1}, TL_E_INVALID, "10000"},
        {{.topic = "No"}, TL_E_INVALID, "topic"},
        {{.topic = "nope"}, TL_E_NOTFOUND, "nope"},
        {{.after = 1000}, TL_E_INVALID, "1000"},
    };
    char name[300];
    tl_live *live = NULL;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cases[i].o.size = sizeof cases[i].o;
        assert_status(e->c, tl_subscribe_all(e->c, &cases[i].o, see, NULL, &live), cases[i].status);
        assert_contains(tl_error_message(tl_client_error(e->c)), cases[i].word);
    }
    assert_int_equal(tl_error_index(tl_client_error(e->c)), -1);
    assert_status(e->c,
                  tl_subscribe_all(e->c, TL_LIVE_OPTIONS(.types = bad_types, .type_count = 2), see,
                                   NULL, &live),
                  TL_E_INVALID);
    assert_int_equal(tl_error_index(tl_client_error(e->c)), 1);
    assert_status(e->c, tl_subscribe_all(e->c, NULL, NULL, NULL, &live), TL_E_INVALID);
    assert_status(e->c, tl_subscribe_stream(e->c, "", NULL, see, NULL, &live), TL_E_INVALID);
    assert_status(e->c, tl_subscribe_category(e->c, NULL, NULL, see, NULL, &live), TL_E_INVALID);
    assert_status(e->c, tl_subscribe_category(e->c, "a-b", NULL, see, NULL, &live), TL_E_INVALID);
    assert_contains(tl_error_message(tl_client_error(e->c)), "'-'");
    assert_status(e->c, tl_subscribe_type(e->c, NULL, NULL, see, NULL, &live), TL_E_INVALID);
    assert_status(e->c,
                  tl_subscribe_type(e->c, "a", TL_LIVE_OPTIONS(.pattern = "b"), see, NULL, &live),
                  TL_E_INVALID);
    memset(name, 'x', sizeof name);
    name[256] = '\0';
    assert_status(e->c, tl_subscribe_stream(e->c, name, NULL, see, NULL, &live), TL_E_INVALID);
    assert_contains(tl_error_message(tl_client_error(e->c)), "255");
    assert_status(e->c,
                  tl_subscribe_stream(e->c, "s", TL_LIVE_OPTIONS(.after = 1), see, NULL, &live),
                  TL_E_INVALID);
    assert_status(e->c,
                  tl_subscribe_stream(e->c, "s", TL_LIVE_OPTIONS(.topic = "bus"), see, NULL, &live),
                  TL_E_UNSUPPORTED);
    assert_status(
        e->c, tl_subscribe_category(e->c, "s", TL_LIVE_OPTIONS(.topic = "bus"), see, NULL, &live),
        TL_E_UNSUPPORTED);
    assert_null(live);
    assert_status(e->c, tl_client_process(e->c), TL_NOTHING);
    assert_status(e->c, tl_client_run(e->c, UINT64_MAX), TL_NOTHING);
    assert_null(tl_live_stop(NULL));
}

/* SUB-6: stream names of any allowed length and content */
static void any_name_works(void **state)
{
    struct env *e = *state;
    static struct seen s[3];
    char longest[256];
    const char *names[] = {longest, "o'\"\\ {,}-\xc3\xbc%", "NULL"};

    memset(s, 0, sizeof s);
    memset(longest, 'n', 255);
    longest[255] = '\0';
    for (int i = 0; i < 3; i++) {
        store(e->admin, names[i], "x", 1);
        stream(e, names[i], NULL, &s[i]);
    }
    for (int i = 0; i < 3; i++) {
        store(e->admin, names[i], "x", 1);
        run_until_seen(e->c, &s[i], 2);
    }
}

/* RPL-2: a log that lost its end is no log to go on in */
static void a_lost_end_is_an_error(void **state)
{
    struct env *e = *state;
    static struct seen s[2];
    tl_live *live[2];
    tl_live *late = NULL;

    memset(s, 0, sizeof s);
    store(e->admin, "a-1", "x", 10);
    live[0] = all(e, NULL, &s[0]);
    live[1] = category(e, "a", NULL, &s[1]);
    run_until_seen(e->c, &s[0], 10);
    run_until_seen(e->c, &s[1], 10);
    run_until(e->c, is_caught_up, live[1]);
    /* what a promoted standby that lagged behind looks like */
    test_db_exec(e->admin, "select setval('trunkline.position_store', 4)");
    /* somebody rings: the bell may be armed by now, and there is no poll */
    test_db_exec(e->admin, "insert into trunkline.topic_bus (type, data) values ('x', '1')");
    run_until(e->c, has_ended, live[0]);
    run_until(e->c, has_ended, live[1]);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tl_live_status(live[i]), TL_E_INVALID);
        assert_contains(tl_error_detail(tl_live_error(live[i])), "\"highest\": 4");
        assert_int_equal(tl_live_position(live[i]), 10);
    }
    assert_status(e->c, tl_subscribe_all(e->c, TL_LIVE_OPTIONS(.after = 10), see, &s[0], &late),
                  TL_E_INVALID);
    assert_contains(tl_error_hint(tl_client_error(e->c)), "failover");
    assert_null(late);
}

/* SUB-5: what was retired before it was read is told, too; the beginning is where the log begins */
static void retired_events_are_not_skipped_silently(void **state)
{
    struct env *e = *state;
    static struct seen s;
    tl_live *live = NULL;

    memset(&s, 0, sizeof s);
    store(e->admin, "a-1", "x", 3);
    test_db_exec(e->admin, "select setval('trunkline.position_store', 1 << 30)");
    store(e->admin, "a-1", "x", 1);
    test_db_exec(e->admin, "delete from trunkline.leaves where leaf = 0 and topic_id = "
                           "(select topic_id from trunkline.topics where name = 'store')");
    assert_status(e->c, tl_subscribe_all(e->c, TL_LIVE_OPTIONS(.after = 2), see, &s, &live),
                  TL_E_INVALID);
    assert_contains(tl_error_detail(tl_client_error(e->c)), "\"lowest\": 1073741823");
    assert_status(e->c, tl_subscribe_all(e->c, NULL, see, &s, &live), TL_OK);
    run_until_seen(e->c, &s, 4); /* the leaf itself is still there in this test */
}

static void a_dropped_topic_ends_its_subscriptions(void **state)
{
    struct env *e = *state;
    static struct seen s, bus;
    tl_live *live, *other;

    memset(&s, 0, sizeof s);
    memset(&bus, 0, sizeof bus);
    test_db_exec(e->admin, "select trunkline.create_topic('own')");
    live = all(e, TL_LIVE_OPTIONS(.topic = "own"), &s);
    other = all(e, TL_LIVE_OPTIONS(.topic = "bus"), &bus);
    run_until(e->c, is_caught_up, live);
    test_db_exec(e->admin, "select trunkline.drop_topic('own', true)");
    test_db_exec(e->admin, "insert into trunkline.topic_bus (type, data) values ('x', '1')");
    run_until(e->c, has_ended, live);
    assert_int_equal(tl_live_status(live), TL_E_NOTFOUND);
    run_until_seen(e->c, &bus, 1);
    assert_int_equal(tl_live_status(other), TL_OK);
}

struct beside {
    struct env *e;
    tl_live *live;
    uint64_t next_us;
};

/* Meanwhile something goes on in another topic. */
static bool has_ended_beside(void *arg)
{
    struct beside *b = arg;

    if (clock_us() >= b->next_us) {
        test_db_exec(b->e->admin, "insert into trunkline.topic_bus (type, data) values ('x', '1')");
        b->next_us = clock_us() + SECOND_US / 20;
    }
    return has_ended(b->live);
}

/* Reads of another topic that succeed neither put off its end nor are put off by it. */
static void a_topic_that_cannot_be_read_ends_its_own(void **state)
{
    struct env *e = *state;
    static struct seen s, bus;
    tl_live *live, *other;
    struct beside b = {.e = e};
    int count;

    memset(&s, 0, sizeof s);
    memset(&bus, 0, sizeof bus);
    test_db_exec(e->admin, "select trunkline.create_topic('own')");
    b.live = live = all(e, TL_LIVE_OPTIONS(.topic = "own"), &s);
    other = all(e, TL_LIVE_OPTIONS(.topic = "bus"), &bus);
    run_until(e->c, is_caught_up, live);
    test_db_exec(e->admin, "insert into trunkline.topic_own (type, data) values ('x', '1');"
                           "alter table trunkline.topic_own rename to away");
    run_until(e->c, has_ended_beside, &b);
    assert_int_equal(tl_live_status(other), TL_OK);
    count = (int)query_number(e->admin, "select count(*) from trunkline.topic_bus");
    assert_true(count > 20);
    run_until_seen(e->c, &bus, count);
}

/* grant_consume() is enough, and of no other topic */
static void who_may_not_read_is_told_at_once(void **state)
{
    struct env *e = *state;
    static struct seen s;
    char sql[300], conninfo[500];
    tl_live *live = NULL;
    tl_client *c;

    memset(&s, 0, sizeof s);
    (void)snprintf(sql, sizeof sql,
                   "create role live_reader_%d login; "
                   "select trunkline.grant_consume('live_reader_%d', 'bus')",
                   (int)getpid(), (int)getpid());
    test_db_exec(e->admin, sql);
    (void)snprintf(conninfo, sizeof conninfo, "%s user=live_reader_%d", e->conninfo, (int)getpid());
    c = open_client(conninfo, "reader", NO_POLL_US);
    assert_status(c, tl_subscribe_all(c, NULL, see, &s, &live), TL_E_DENIED);
    assert_status(c, tl_subscribe_stream(c, "a", NULL, see, &s, &live), TL_E_DENIED);
    assert_status(c, tl_subscribe_all(c, TL_LIVE_OPTIONS(.topic = "bus"), see, &s, &live), TL_OK);
    run_until(c, is_caught_up, live);
    test_db_exec(e->admin, "select trunkline.publish('x', '1')");
    run_until_seen(c, &s, 1);
    tl_client_close(c);
    (void)snprintf(sql, sizeof sql, "drop owned by live_reader_%d; drop role live_reader_%d",
                   (int)getpid(), (int)getpid());
    test_db_exec(e->admin, sql);
}

#define test(name) cmocka_unit_test_setup_teardown(name, env_setup, env_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(each_kind_gets_history_and_then_what_comes),
        test(they_begin_where_they_are_told_to),
        test(filters_combine),
        test(deleted_and_trimmed_events_are_left_out),
        test(only_what_somebody_wants_is_sent),
        test(a_parked_writer_is_waited_for),
        test(a_handler_that_fails_ends_only_itself),
        test(stopping_inside_a_handler),
        test(subscribing_inside_a_handler),
        test(what_a_handler_must_not_do_is_refused),
        test(topics_are_read_once_and_only_while_somebody_listens),
        test(bad_arguments_are_named),
        test(any_name_works),
        test(a_lost_end_is_an_error),
        test(retired_events_are_not_skipped_silently),
        test(a_dropped_topic_ends_its_subscriptions),
        test(a_topic_that_cannot_be_read_ends_its_own),
        test(who_may_not_read_is_told_at_once),
        test(subscribing_after_the_last_was_stopped),
        test(subscribing_when_the_connection_is_given_up),
    };

    return cmocka_run_group_tests_name("live", tests, NULL, NULL);
}
