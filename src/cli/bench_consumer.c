/*
 * bench_consumer.c: who gets what `trunkline bench` writes: a worker with a handler that looks at
 * the clock, and for the bare side a session that listens.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "out.h"

static const uint64_t STALLED_NS = 120000000000u, LOOK_NS = 2000000u;

struct side {
    pthread_t thread;
    bool has_thread;
    atomic_bool is_failed;
    pthread_mutex_t lock; /* for the rest */
    uint64_t handled;
    struct tl__histogram times;
};

struct tl__bench_consumer {
    struct side worker_side, listener_side;
    tl_client *client;
    tl_worker *worker;
    int worker_pid;
    int64_t last_position; /* a redelivery does not count */
    PGconn *listener;
    int listener_pid;
    atomic_bool is_stopping;
};

static struct side *side_of(struct tl__bench_consumer *c, enum tl__bench_side side)
{
    return side == TL__BENCH_TRUNKLINE ? &c->worker_side : &c->listener_side;
}

static void handled(struct side *s, uint64_t due_ns)
{
    uint64_t now_ns = tl__clock_ns();

    pthread_mutex_lock(&s->lock);
    tl__histogram_add(&s->times, now_ns > due_ns ? now_ns - due_ns : 0, 1);
    s->handled++;
    pthread_mutex_unlock(&s->lock);
}

/* ----------------------------------------------------------------------------------- threads -- */

static tl_verdict on_event(tl_delivery *delivery, void *userdata)
{
    struct tl__bench_consumer *c = userdata;
    const tl_event *e = tl_delivery_event(delivery);

    if (tl_event_position(e) <= c->last_position)
        return TL_DONE;
    c->last_position = tl_event_position(e);
    handled(&c->worker_side, tl__bench_stamp_of(tl_event_data(e, NULL)));
    return TL_DONE;
}

static void *run_worker(void *userdata)
{
    struct tl__bench_consumer *c = userdata;
    tl_status status = tl_worker_run(c->worker);

    if (status != TL_OK) {
        tl__fail_error(status, tl_worker_error(c->worker));
        atomic_store(&c->worker_side.is_failed, true);
    }
    return NULL;
}

static void *run_listener(void *userdata)
{
    struct tl__bench_consumer *c = userdata;
    struct pollfd p = {.fd = PQsocket(c->listener), .events = POLLIN};

    while (!atomic_load(&c->is_stopping)) {
        PGnotify *n;
        if (poll(&p, 1, 100) > 0 && !PQconsumeInput(c->listener)) {
            tl__fail(TL_E_CONNECTION, NULL, "%s", PQerrorMessage(c->listener));
            atomic_store(&c->listener_side.is_failed, true);
            break;
        }
        while ((n = PQnotifies(c->listener))) {
            handled(&c->listener_side, strtoull(n->extra, NULL, 10));
            PQfreemem(n);
        }
    }
    return NULL;
}

/* ------------------------------------------------------------------------------ start and end -- */

static int start_worker(struct tl__bench_consumer *c, const struct tl__args *args,
                        struct tl__db *db)
{
    tl_client_options options = tl__db_client_options(args, db);
    tl_status status = tl_client_open(db->conninfo, &options, &c->client);

    if (status != TL_OK)
        return tl__fail_client(status, c->client);
    c->worker_pid = tl__bench_server_pid(tl_client_pgconn(c->client));
    status = tl_worker_new(c->client, "bench", NULL, NULL, &c->worker);
    if (status != TL_OK)
        return tl__fail_client(status, c->client);
    status = tl_worker_handle(c->worker, TL__BENCH_SUBSCRIPTION, on_event, c, NULL);
    if (status != TL_OK)
        return tl__fail_error(status, tl_worker_error(c->worker));
    c->worker_side.has_thread = pthread_create(&c->worker_side.thread, NULL, run_worker, c) == 0;
    return c->worker_side.has_thread ? 0 : tl__fail(TL_E_NOMEM, NULL, "cannot start a thread");
}

static int start_listener(struct tl__bench_consumer *c, struct tl__db *db)
{
    PGresult *r;
    bool is_ok;

    c->listener =
        PQconnectdbParams((const char *const[]){"dbname", "application_name", NULL},
                          (const char *const[]){db->conninfo, "trunkline bench", NULL}, 1);
    r = PQexec(c->listener, "LISTEN " TL__BENCH_CHANNEL);
    is_ok = PQresultStatus(r) == PGRES_COMMAND_OK;
    PQclear(r);
    if (!is_ok)
        return tl__fail(TL_E_CONNECTION, NULL, "%s", PQerrorMessage(c->listener));
    c->listener_pid = tl__bench_server_pid(c->listener);
    c->listener_side.has_thread =
        pthread_create(&c->listener_side.thread, NULL, run_listener, c) == 0;
    return c->listener_side.has_thread ? 0 : tl__fail(TL_E_NOMEM, NULL, "cannot start a thread");
}

struct tl__bench_consumer *tl__bench_consumer_start(const struct tl__args *args, struct tl__db *db,
                                                    int *ret_rc)
{
    struct tl__bench_consumer *c = calloc(1, sizeof *c);

    *ret_rc = c ? 0 : tl__fail(TL_E_NOMEM, NULL, "no memory for the consumer");
    if (c) {
        pthread_mutex_init(&c->worker_side.lock, NULL);
        pthread_mutex_init(&c->listener_side.lock, NULL);
    }
    if (c && ((*ret_rc = start_worker(c, args, db)) || (*ret_rc = start_listener(c, db)))) {
        tl__bench_consumer_stop(c);
        return NULL;
    }
    return c;
}

void tl__bench_consumer_stop(struct tl__bench_consumer *c)
{
    if (!c)
        return;
    atomic_store(&c->is_stopping, true);
    if (c->worker_side.has_thread) {
        tl_worker_stop(c->worker);
        pthread_join(c->worker_side.thread, NULL);
    }
    if (c->listener_side.has_thread)
        pthread_join(c->listener_side.thread, NULL);
    tl_worker_free(c->worker);
    tl_client_close(c->client);
    PQfinish(c->listener);
    pthread_mutex_destroy(&c->worker_side.lock);
    pthread_mutex_destroy(&c->listener_side.lock);
    free(c);
}

/* -------------------------------------------------------------------------------------- times -- */

static uint64_t handled_count(struct side *s)
{
    pthread_mutex_lock(&s->lock);
    uint64_t n = s->handled;
    pthread_mutex_unlock(&s->lock);
    return n;
}

int tl__bench_consumer_wait(struct tl__bench_consumer *c, enum tl__bench_side side, uint64_t count,
                            const atomic_bool *cancel)
{
    struct side *s = side_of(c, side);
    uint64_t before = 0, moved_ns = tl__clock_ns(), n;

    while ((n = handled_count(s)) < count) {
        if (atomic_load(cancel))
            return tl_status_exit_code(TL_E_CANCELLED);
        if (atomic_load(&s->is_failed))
            return tl_status_exit_code(TL_E_SERVER);
        if (n != before)
            moved_ns = tl__clock_ns();
        if (tl__clock_ns() - moved_ns > STALLED_NS)
            return tl__fail(TL_E_TIMEOUT, NULL,
                            "the consumer has handled %llu of %llu events and nothing for 2 "
                            "minutes",
                            (unsigned long long)n, (unsigned long long)count);
        before = n;
        tl__sleep_until_ns(tl__clock_ns() + LOOK_NS);
    }
    return 0;
}

void tl__bench_consumer_take_times(struct tl__bench_consumer *c, enum tl__bench_side side,
                                   struct tl__histogram *into)
{
    struct side *s = side_of(c, side);

    pthread_mutex_lock(&s->lock);
    if (into)
        tl__histogram_merge(into, &s->times);
    s->times = (struct tl__histogram){0};
    pthread_mutex_unlock(&s->lock);
}

uint64_t tl__bench_consumer_server_cpu_ns(const struct tl__bench_consumer *c)
{
    return tl__bench_server_cpu_ns(c->listener, c->worker_pid) +
           tl__bench_server_cpu_ns(c->listener, c->listener_pid);
}
