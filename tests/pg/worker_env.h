/*
 * worker_env.h: what the worker tests share: a database, a client, an observer's connection, and a
 * loop that drives several workers in one thread until a state is reached. For tests/pg only.
 */
#ifndef TL_WORKER_ENV_H
#define TL_WORKER_ENV_H

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
#define MAX_DELIVERED 4096

struct env {
    char *conninfo;
    PGconn *admin;
    tl_client *client;
};

static inline tl_client *open_client(const char *conninfo)
{
    tl_client *c = NULL;
    tl_status status = tl_client_open(
        conninfo, TL_CLIENT_OPTIONS(.reconnect_base_us = 10000, .log = print_log), &c);

    if (status != TL_OK)
        print_error("open: %s\n", tl_error_message(tl_client_error(c)));
    assert_int_equal(status, TL_OK);
    return c;
}

static inline int env_setup(void **state)
{
    struct env *e = calloc(1, sizeof *e);

    e->conninfo = test_db_create(1);
    e->admin = test_db_connect(e->conninfo);
    e->client = open_client(e->conninfo);
    *state = e;
    return 0;
}

static inline int env_teardown(void **state)
{
    struct env *e = *state;

    tl_client_close(e->client);
    PQfinish(e->admin);
    test_db_drop(e->conninfo);
    free(e);
    return 0;
}

static inline void publish(struct env *e, const char *type, const char *key, int count)
{
    char sql[256];

    snprintf(sql, sizeof sql,
             "insert into trunkline.topic_bus (type, data, key) "
             "select '%s', jsonb_build_object('n', i), nullif('%s', '') "
             "from generate_series(1, %d) i",
             type, key != NULL ? key : "", count);
    test_db_exec(e->admin, sql);
}

static inline int64_t number(struct env *e, const char *sql)
{
    return query_number(e->admin, sql);
}

static inline tl_subscribe_options subscribe_options(tl_ordering ordering)
{
    return (tl_subscribe_options){.size = sizeof(tl_subscribe_options),
                                  .ordering = ordering,
                                  .start = TL_START_BEGINNING,
                                  .max_attempts = 3,
                                  .retry_delay_us = 1000,
                                  .retry_cap_us = 2000};
}

static inline tl_router *new_router(void)
{
    tl_router *r;

    assert_int_equal(tl_router_new(NULL, &r), TL_OK);
    return r;
}

static inline tl_worker *new_worker(tl_client *c, const tl_router *r,
                                    const tl_worker_options *options)
{
    tl_worker *w = NULL;
    tl_status status = tl_worker_new(c, "m", r, options, &w);

    if (status != TL_OK)
        print_error("worker: %s\n", tl_error_message(tl_client_error(c)));
    assert_int_equal(status, TL_OK);
    return w;
}

/* A worker with one route "m/h" on every type. */
static inline tl_worker *simple_worker(tl_client *c, tl_handler_fn fn, void *userdata,
                                       tl_ordering ordering, bool transactional,
                                       const tl_worker_options *options)
{
    tl_router *r = new_router();
    tl_worker *w;

    assert_int_equal(tl_router_on(r, "**", fn, userdata,
                                  TL_ROUTE_OPTIONS(.name = "h", .transactional = transactional,
                                                   .subscribe = subscribe_options(ordering))),
                     TL_OK);
    w = new_worker(c, r, options);
    tl_router_free(r);
    return w;
}

static inline tl_worker_stats stats_of(const tl_worker *w)
{
    tl_worker_stats s;

    tl_worker_get_stats(w, &s);
    return s;
}

typedef bool (*state_fn)(void *arg);

/* Drive workers (NULLs are passed over) until is_reached; fails the test at the deadline. */
static inline void drive(tl_worker *const *workers, int n, state_fn is_reached, void *arg)
{
    uint64_t give_up_us = clock_us() + DEADLINE_US;

    while (!is_reached(arg)) {
        struct pollfd fds[4];
        uint64_t now_us = clock_us();
        uint64_t deadline_us = now_us + 20000; /* look at the state again */
        struct timespec ts = {0, 0};

        assert_true(now_us < give_up_us);
        for (int i = 0; i < n; i++) {
            fds[i] = (struct pollfd){.fd = -1};
            if (workers[i] == NULL)
                continue;
            fds[i] = (struct pollfd){.fd = tl_worker_fd(workers[i]), .events = POLLIN};
            if (tl_worker_deadline_us(workers[i]) < deadline_us)
                deadline_us = tl_worker_deadline_us(workers[i]);
        }
        ts.tv_nsec = deadline_us > now_us ? (long)(deadline_us - now_us) * 1000 : 0;
        (void)ppoll(fds, (nfds_t)n, &ts, NULL);
        for (int i = 0; i < n; i++) {
            /* only what a caller's loop would do */
            if (workers[i] != NULL &&
                (fds[i].revents != 0 || clock_us() >= tl_worker_deadline_us(workers[i]))) {
                tl_status status = tl_worker_process(workers[i]);

                if (status < 0)
                    print_error("process: %s\n", tl_error_message(tl_worker_error(workers[i])));
                assert_true(status >= 0);
            }
        }
    }
}

static inline void drive_one(tl_worker *w, state_fn is_reached, void *arg)
{
    drive(&w, 1, is_reached, arg);
}

/* What handlers saw. */
struct seen {
    int count;
    int64_t positions[MAX_DELIVERED];
    uint32_t attempts[MAX_DELIVERED];
    int until; /* for has_seen */
};

static inline void see(struct seen *s, const tl_delivery *d)
{
    assert_true(s->count < MAX_DELIVERED);
    s->positions[s->count] = tl_event_position(tl_delivery_event(d));
    s->attempts[s->count++] = tl_delivery_attempt(d);
}

static inline bool has_seen(void *arg)
{
    const struct seen *s = arg;

    return s->count >= s->until;
}

static inline bool is_done(void *arg)
{
    return tl_worker_process(arg) != TL_OK;
}

/* True when the bell is armed: its lock is held exclusively. */
static inline bool is_bell_armed(struct env *e)
{
    return number(e, "select count(*) from pg_locks where locktype = 'advisory' and objid = 0 "
                     "and objsubid = 2 and mode = 'ExclusiveLock' and granted "
                     "and database = (select oid from pg_database where datname = "
                     "current_database())") > 0;
}

#endif
