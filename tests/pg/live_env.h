/*
 * live_env.h: what the tests of live subscriptions share: a database, a client and its own loop, which waits
 * as a caller would and processes only when told to. For tests/pg only.
 */
#ifndef TL_LIVE_ENV_H
#define TL_LIVE_ENV_H

#include "client_assert.h"
#include "test_db.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <trunkline/trunkline.h>

#define SECOND_US 1000000u
#define DEADLINE_US (120u * SECOND_US) /* for what hangs */
#define NO_POLL_US (600u * SECOND_US)  /* beyond every deadline: only the doorbell can help */
#define MAX_SEEN 20000

struct env {
    char *conninfo;
    PGconn *admin;
    tl_client *c;
};

/* name: application_name, to find the client's connections by. */
static inline tl_client *open_client(const char *conninfo, const char *name,
                                     uint64_t poll_interval_us)
{
    tl_client *c = NULL;
    tl_status status =
        tl_client_open(conninfo,
                       TL_CLIENT_OPTIONS(.application_name = name, .reconnect_base_us = 10000,
                                         .reconnect_cap_us = 100000,
                                         .poll_interval_us = poll_interval_us, .log = print_log),
                       &c);

    assert_status(c, status, TL_OK);
    return c;
}

static inline int env_setup(void **state)
{
    struct env *e = calloc(1, sizeof *e);

    e->conninfo = test_db_create(1);
    e->admin = test_db_connect(e->conninfo);
    e->c = open_client(e->conninfo, "live", NO_POLL_US);
    *state = e;
    return 0;
}

static inline int env_teardown(void **state)
{
    struct env *e = *state;

    assert_null(tl_client_close(e->c));
    PQfinish(e->admin);
    test_db_drop(e->conninfo);
    free(e);
    return 0;
}

/* Append `count` events, one after the other, in one transaction. */
static inline void store(PGconn *db, const char *stream, const char *type, int count)
{
    const char *values[] = {stream, type, NULL};
    char text[16];
    PGresult *res;

    (void)snprintf(text, sizeof text, "%d", count);
    values[2] = text;
    res = PQexecParams(db,
                       "select from trunkline.append_rows($1, array_fill($2::text, "
                       "array[$3::integer]), (select array_agg(to_jsonb(i)) from "
                       "generate_series(1, $3::integer) i), null, null, null, null, 'store', null)",
                       3, NULL, values, NULL, NULL, 0);
    if (PQresultStatus(res) != PGRES_COMMAND_OK && PQresultStatus(res) != PGRES_TUPLES_OK)
        fail_msg("append: %s", PQerrorMessage(db));
    PQclear(res);
}

typedef bool (*state_fn)(void *arg);

/* One turn of a caller's loop: wait until the client wants to be called, at most 20 ms; call it. */
static inline tl_status turn(tl_client *c)
{
    struct pollfd pfd = {.fd = tl_client_fd(c), .events = (short)tl_client_events(c)};
    uint64_t now_us = clock_us();
    uint64_t until_us = tl_client_deadline_us(c);
    struct timespec ts = {0, 0};

    if (until_us > now_us + 20000)
        until_us = now_us + 20000;
    if (until_us > now_us)
        ts.tv_nsec = (long)(until_us - now_us) * 1000;
    if (ppoll(&pfd, 1, &ts, NULL) <= 0 && clock_us() < tl_client_deadline_us(c))
        return TL_OK;
    return tl_client_process(c);
}

static inline void run_until(tl_client *c, state_fn is_reached, void *arg)
{
    uint64_t give_up_us = clock_us() + DEADLINE_US;

    while (!is_reached(arg)) {
        tl_status status = turn(c);

        if (status < 0)
            fail_msg("process: %s", tl_error_message(tl_client_error(c)));
        if (clock_us() >= give_up_us)
            fail_msg("the state was not reached");
    }
}

/* What a handler saw. */
struct seen {
    int count;
    int until; /* for has_seen */
    int64_t positions[MAX_SEEN];
    int64_t versions[MAX_SEEN];
};

static inline int see(tl_live *live, const tl_event *e, void *userdata)
{
    struct seen *s = userdata;

    (void)live;
    assert_true(s->count < MAX_SEEN);
    s->positions[s->count] = tl_event_position(e);
    s->versions[s->count++] = tl_event_version(e);
    return 0;
}

static inline bool has_seen(void *arg)
{
    const struct seen *s = arg;

    return s->count >= s->until;
}

static inline void run_until_seen(tl_client *c, struct seen *s, int count)
{
    s->until = count;
    run_until(c, has_seen, s);
    assert_int_equal(s->count, count);
}

static inline bool is_caught_up(void *arg)
{
    return tl_live_is_caught_up(arg);
}

static inline bool has_ended(void *arg)
{
    return tl_live_status(arg) != TL_OK;
}

/* True when the bell is armed: its lock is held exclusively. */
static inline bool is_bell_armed(void *db)
{
    return query_number(db,
                        "select count(*) from pg_locks where locktype = 'advisory' and objid = 0 "
                        "and objsubid = 2 and mode = 'ExclusiveLock' and granted "
                        "and database = (select oid from pg_database where datname = "
                        "current_database())") > 0;
}

/* Exactly the positions that a query gives, in its order. */
static inline void assert_saw(PGconn *db, const struct seen *s, const char *sql)
{
    PGresult *res = test_db_query(db, sql);

    assert_int_equal(s->count, PQntuples(res));
    for (int i = 0; i < s->count; i++) {
        if (s->positions[i] != strtoll(PQgetvalue(res, i, 0), NULL, 10))
            fail_msg("event %d is %lld, not %s", i, (long long)s->positions[i],
                     PQgetvalue(res, i, 0));
    }
    PQclear(res);
}

/* Subscriptions of each kind that a struct seen notes. */
static inline tl_live *stream(struct env *e, const char *name, const tl_live_options *opts,
                              struct seen *s)
{
    tl_live *live = NULL;

    assert_status(e->c, tl_subscribe_stream(e->c, name, opts, see, s, &live), TL_OK);
    return live;
}

static inline tl_live *category(struct env *e, const char *name, const tl_live_options *opts,
                                struct seen *s)
{
    tl_live *live = NULL;

    assert_status(e->c, tl_subscribe_category(e->c, name, opts, see, s, &live), TL_OK);
    return live;
}

static inline tl_live *all(struct env *e, const tl_live_options *opts, struct seen *s)
{
    tl_live *live = NULL;

    assert_status(e->c, tl_subscribe_all(e->c, opts, see, s, &live), TL_OK);
    return live;
}

/* A handler that does something at one event, or fails there. */
struct script {
    struct env *e;
    struct seen seen;
    int fail_at; /* this event, counted from 1 */
    int (*act)(struct script *s, tl_live *live);
    tl_live *other;
    struct seen other_seen;
    int ended_status;
    int ended_calls;
};

static inline int play(tl_live *live, const tl_event *e, void *userdata)
{
    struct script *s = userdata;

    see(live, e, &s->seen);
    if (s->seen.count != s->fail_at)
        return 0;
    return s->act != NULL ? s->act(s, live) : -77;
}

static inline void note_end(tl_live *live, int status, void *userdata)
{
    struct script *s = userdata;

    assert_int_equal(tl_live_status(live), status);
    s->ended_status = status;
    s->ended_calls++;
}

#endif
