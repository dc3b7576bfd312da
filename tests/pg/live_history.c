/*
 * live_history.c: random histories against an oracle: writers whose transactions stay open and end in any order,
 * subscriptions of all kinds that come, go and come back at their positions, connections that die. In the end
 * each one saw exactly what the log has for it after its start, in order, once (SUB-5, SUB-6, WAK-4). A failure
 * prints its seed; TRUNKLINE_SEED repeats it.
 */
#include "live_env.h"

enum { WRITERS = 4, SUBSCRIBERS = 8, STEPS = 400, HISTORIES = 4, STREAMS = 3, MAX_EVENTS = 4000 };

enum kind { STREAM, CATEGORY, ALL, TYPE, KINDS };

struct subscriber {
    tl_live *live; /* NULL: away */
    enum kind kind;
    char name[32];
    const char *tenant_id;
    const char *type; /* exact or pattern; NULL: all */
    bool is_new;      /* never subscribed yet */
    int64_t start, cursor;
    int count;
    int64_t places[MAX_EVENTS];
};

struct history {
    struct env *e;
    unsigned seed;
    PGconn *writers[WRITERS];
    bool is_open[WRITERS];
    struct subscriber subscribers[SUBSCRIBERS];
};

static unsigned below(struct history *h, unsigned n)
{
    h->seed = h->seed * 1103515245u + 12345u;
    return (h->seed >> 16) % n;
}

static int note(tl_live *live, const tl_event *e, void *userdata)
{
    struct subscriber *s = userdata;

    (void)live;
    assert_true(s->count < MAX_EVENTS);
    s->places[s->count++] = s->kind == STREAM ? tl_event_version(e) : tl_event_position(e);
    return 0;
}

/* ------------------------------------------------------------------------------- subscribers -- */

static void invent(struct history *h, struct subscriber *s)
{
    static const char *const types[] = {NULL, NULL, "t.x", "t.*", "*.y"};
    static const char *const tenants[] = {NULL, NULL, "t0", "t1"};

    *s = (struct subscriber){.kind = (enum kind)below(h, KINDS), .is_new = true};
    s->type = types[below(h, s->kind == TYPE ? 3 : 5)];
    if (s->kind == TYPE)
        s->type = types[2 + below(h, 3)];
    s->tenant_id = tenants[below(h, 4)];
    if (s->kind == STREAM) {
        s->tenant_id = NULL;
        (void)snprintf(s->name, sizeof s->name, "c%u-%u-%u", below(h, STREAMS), below(h, WRITERS),
                       below(h, STREAMS));
    } else if (s->kind == CATEGORY) {
        (void)snprintf(s->name, sizeof s->name, "c%u", below(h, STREAMS));
    }
}

static int64_t newest(struct history *h, const struct subscriber *s)
{
    char sql[200];

    (void)snprintf(sql, sizeof sql, "select trunkline.stream_version('%s')", s->name);
    return query_number(h->e->admin, s->kind == STREAM ? sql : "select trunkline.horizon('store')");
}

static void subscribe(struct history *h, struct subscriber *s)
{
    tl_client *c = h->e->c;
    tl_live_options o = {.size = sizeof o,
                         .tenant_id = s->tenant_id,
                         .pattern = s->kind == TYPE ? NULL : s->type,
                         .batch = 1 + below(h, 20)};
    tl_status status;

    if (!s->is_new)
        o.after = s->cursor;
    else if (below(h, 3) == 0)
        o.from_end = true;
    else if (below(h, 2) == 0)
        o.after = below(h, (unsigned)newest(h, s) + 1);
    do { /* the connection of the calls dies now and then, too */
        status = s->kind == STREAM     ? tl_subscribe_stream(c, s->name, &o, note, s, &s->live)
                 : s->kind == CATEGORY ? tl_subscribe_category(c, s->name, &o, note, s, &s->live)
                 : s->kind == TYPE     ? tl_subscribe_type(c, s->type, &o, note, s, &s->live)
                                       : tl_subscribe_all(c, &o, note, s, &s->live);
    } while (status == TL_E_CONNECTION);
    assert_status(c, status, TL_OK);
    if (s->is_new)
        s->start = tl_live_position(s->live);
    s->is_new = false;
}

static void come_or_go(struct history *h)
{
    struct subscriber *s = &h->subscribers[below(h, SUBSCRIBERS)];

    if (s->live == NULL) {
        subscribe(h, s);
        return;
    }
    s->cursor = tl_live_position(s->live);
    s->live = tl_live_stop(s->live);
}

/* ----------------------------------------------------------------------------------- writers -- */

static void write_something(struct history *h)
{
    unsigned w = below(h, WRITERS);
    char sql[400];

    if (!h->is_open[w] && below(h, 2) == 0) {
        test_db_exec(h->writers[w], "begin");
        h->is_open[w] = true;
    }
    if (h->is_open[w] && below(h, 4) == 0) {
        test_db_exec(h->writers[w], below(h, 4) == 0 ? "rollback" : "commit");
        h->is_open[w] = false;
        return;
    }
    /* a writer's own streams: another one's may be locked by its open transaction */
    (void)snprintf(
        sql, sizeof sql,
        "select trunkline.append('c%u-%u-%u', (select jsonb_agg(jsonb_build_object('type', "
        "'t.' || (array['x', 'y', 'z'])[1 + i %% 3], 'data', i)) from generate_series(%u, %u) i), "
        "tenant_id => 't%u')",
        below(h, STREAMS), w, below(h, STREAMS), 1u, 1 + below(h, below(h, 8) == 0 ? 40 : 3),
        w % 2);
    test_db_exec(h->writers[w], sql);
}

static void kill_connection(struct history *h)
{
    test_db_exec(h->e->admin, "select pg_terminate_backend(pid) from pg_stat_activity where "
                              "application_name = 'live' and datname = current_database()");
}

/* ------------------------------------------------------------------------------------ oracle -- */

static void check(struct history *h, const struct subscriber *s)
{
    const char *column = s->kind == STREAM ? "version" : "position";
    const char *like = s->type == NULL               ? "%"
                       : strcmp(s->type, "t.x") == 0 ? "t.x"
                       : strcmp(s->type, "*.y") == 0 ? "%.y"
                                                     : "t.%";
    char sql[600];
    PGresult *res;

    (void)snprintf(
        sql, sizeof sql,
        "select %s from trunkline.topic_store where %s > %lld and type like '%s' and stream %s "
        "'%s%s' and coalesce('%s' in ('', tenant_id), false) order by %s",
        column, column, (long long)s->start, like, s->kind == STREAM ? "=" : "like", s->name,
        s->kind == STREAM     ? ""
        : s->kind == CATEGORY ? "-%"
                              : "%",
        s->tenant_id != NULL ? s->tenant_id : "", column);
    res = test_db_query(h->e->admin, sql);
    for (int i = 0; i < s->count || i < PQntuples(res); i++) {
        if (i >= s->count || i >= PQntuples(res) ||
            s->places[i] != strtoll(PQgetvalue(res, i, 0), NULL, 10))
            fail_msg("subscriber %d: event %d is %lld, not %s; %d of %d: %s",
                     (int)(s - h->subscribers), i, i < s->count ? (long long)s->places[i] : -1,
                     i < PQntuples(res) ? PQgetvalue(res, i, 0) : "none", s->count, PQntuples(res),
                     sql);
    }
    PQclear(res);
}

static bool has_everything(void *arg)
{
    struct history *h = arg;
    int64_t end = query_number(h->e->admin, "select trunkline.horizon('store')");

    for (int i = 0; i < SUBSCRIBERS; i++) {
        struct subscriber *s = &h->subscribers[i];

        if (!tl_live_is_caught_up(s->live))
            return false;
        if (tl_live_position(s->live) < (s->kind == STREAM ? newest(h, s) : end))
            return false;
    }
    return true;
}

static void step(struct history *h)
{
    switch (below(h, 12)) {
    case 0:
        come_or_go(h);
        break;
    case 1:
        if (below(h, 8) == 0)
            kill_connection(h);
        break;
    case 2:
    case 3:
    case 4:
    case 5:
        write_something(h);
        break;
    default:
        assert_true(turn(h->e->c) >= 0);
    }
}

static void run_history(struct env *e, unsigned seed)
{
    static struct history h;

    memset(&h, 0, sizeof h);
    h.e = e;
    h.seed = seed;
    print_message("# TRUNKLINE_SEED=%u\n", seed);
    for (int w = 0; w < WRITERS; w++)
        h.writers[w] = test_db_connect(e->conninfo);
    for (int i = 0; i < SUBSCRIBERS; i++)
        invent(&h, &h.subscribers[i]);
    for (int i = 0; i < STEPS; i++)
        step(&h);
    for (int w = 0; w < WRITERS; w++) {
        if (h.is_open[w])
            test_db_exec(h.writers[w], "commit");
        PQfinish(h.writers[w]);
    }
    for (int i = 0; i < SUBSCRIBERS; i++) {
        if (h.subscribers[i].live == NULL)
            subscribe(&h, &h.subscribers[i]);
    }
    run_until(e->c, has_everything, &h);
    for (int i = 0; i < SUBSCRIBERS; i++) {
        check(&h, &h.subscribers[i]);
        tl_live_stop(h.subscribers[i].live);
    }
}

static void everybody_sees_its_events_in_order_and_once(void **state)
{
    const char *seed = getenv("TRUNKLINE_SEED");

    if (seed != NULL) {
        run_history(*state, (unsigned)strtoul(seed, NULL, 10));
        return;
    }
    for (unsigned i = 0; i < HISTORIES; i++)
        run_history(*state, (unsigned)clock_us() + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everybody_sees_its_events_in_order_and_once, env_setup,
                                        env_teardown),
    };

    return cmocka_run_group_tests_name("live_history", tests, NULL, NULL);
}
