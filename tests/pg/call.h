/*
 * call.h: a call that runs in a thread of its own while the test acts on the server; for tests/pg only.
 */
#ifndef TL_CALL_H
#define TL_CALL_H

#include "client_test.h"

#include <pthread.h>
#include <sys/socket.h>

struct call {
    pthread_t thread;
    tl_client *c;
    int socket;
    tl_status (*run)(tl_client *c);
    tl_status status;
};

static inline void *run_call(void *arg)
{
    struct call *call = arg;

    call->status = call->run(call->c);
    return NULL;
}

/* The client is connected; call lives until finish(). */
static inline void start(struct call *call, tl_client *c, tl_status (*run)(tl_client *c))
{
    *call = (struct call){.c = c, .socket = PQsocket(tl_client_pgconn(c)), .run = run};
    assert_int_equal(pthread_create(&call->thread, NULL, run_call, call), 0);
}

/* Cut its wire. The client itself is the thread's until finish(). */
static inline void cut(const struct call *call)
{
    assert_int_equal(shutdown(call->socket, SHUT_RDWR), 0);
}

static inline tl_status finish(struct call *call)
{
    assert_int_equal(pthread_join(call->thread, NULL), 0);
    return call->status;
}

/* Sessions of clients on this database. */
#define BACKENDS                                                                                   \
    "FROM pg_stat_activity WHERE application_name = 'libtrunkline' AND datname = "                 \
    "current_database()"

static inline void wait_until_it_waits(PGconn *db)
{
    wait_for(db, "SELECT count(*) " BACKENDS " AND wait_event_type = 'Lock'");
}

#endif
