/*
 * embedded.c: open, ensure, close, stop: the sharing protocol of embedded.h.
 */
#include "internal.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define DEFAULT_TIMEOUT_US 600000000u
#define DEFAULT_STOP_TIMEOUT_US 60000000u
#define SILENCE_LIMIT_US 60000000u /* of processes that are there but do not answer */
#define NOTICE_US 1000000u         /* a start that takes longer is a recovery */

/* Quoted for a conninfo: in single quotes, quotes and backslashes escaped. */
static void write_conninfo(tl__embedded *e)
{
    char host[2 * sizeof(e->socket_dir)];
    size_t length = 0;
    for (const char *p = e->socket_dir; *p; p++) {
        if (*p == '\'' || *p == '\\')
            host[length++] = '\\';
        host[length++] = *p;
    }
    host[length] = '\0';
    /* In the environment a host address would win over our host. */
    snprintf(e->conninfo, sizeof(e->conninfo),
             "host='%s' %sport=%d dbname=trunkline user=trunkline", host,
             getenv("PGHOSTADDR") ? "hostaddr='' " : "", SERVER_PORT);
}

/* Whether the server at socket_dir takes connections; says so without a role or a password. */
static bool answers(tl__embedded *e, const char *socket_dir)
{
    char conninfo[sizeof(e->conninfo) + 32];
    snprintf(e->socket_dir, sizeof(e->socket_dir), "%s", socket_dir);
    write_conninfo(e);
    snprintf(conninfo, sizeof(conninfo), "%s connect_timeout=5", e->conninfo);
    return PQping(conninfo) == PQPING_OK;
}

static tl_status no_answer(const tl__embedded *e, const struct server *server,
                           tl__embedded_error *err)
{
    if (server->pid > 0)
        tl__embedded_fail(err, TL_E_TIMEOUT, "private PostgreSQL (process %d) does not answer",
                          server->pid);
    else
        tl__embedded_fail(err, TL_E_TIMEOUT, "private PostgreSQL does not answer");
    if (server->state == SERVER_STARTING)
        tl__embedded_detail(err, "it is starting or recovering");
    else if (server->state == SERVER_STOPPING)
        tl__embedded_detail(err, "it is stopping");
    else if (server->state == SERVER_READY)
        tl__embedded_detail(err, "its socket is in \"%s\"", server->socket_dir);
    else
        tl__embedded_detail(err, "processes of an earlier one hold the lock on \"%s/%s\"", e->dir,
                            SERVER_FILE);
    tl__embedded_hint(err, "its log is \"%s/%s\"", e->dir, LOG_FILE);
    return TL_E_TIMEOUT;
}

static tl_status early_exit(tl__embedded *e, off_t log_start, tl__embedded_error *err)
{
    tl__embedded_fail(err, TL_E_SERVER, "private PostgreSQL ended while it was starting");
    tl__embedded_log_tail(e, log_start, err);
    return TL_E_SERVER;
}

/* Under the decision lock and with `users` held: until the server answers. */
static tl_status bring_up(tl__embedded *e, uint64_t deadline_us, tl__embedded_error *err)
{
    bool has_started = false, is_noticed = false;
    off_t log_start = 0;
    uint64_t began_us = tl__clock_us(), silent_since_us = began_us;
    for (;;) {
        struct server server;
        tl__embedded_reap(e);
        tl__embedded_look(e, &server);
        tl_status status = TL_NOTHING; /* no decision yet */
        if (server.state == SERVER_NONE) {
            tl__embedded_stop_is_finished(e);
            log_start = has_started ? log_start : tl__embedded_log_size(e);
            status = has_started ? early_exit(e, log_start, err)
                                 : tl__embedded_start_server(e, &server, err);
            if (status == TL_OK)
                status = TL_NOTHING;
            has_started = true;
            silent_since_us = tl__clock_us();
        } else if (tl__embedded_is_stop_unfinished(e) && server.pid > 0) {
            tl__embedded_look_done(&server);
            status = tl__embedded_stop_server(e, err);
            if (status == TL_OK)
                status = TL_NOTHING;
        } else if (server.state == SERVER_READY && answers(e, server.socket_dir)) {
            e->server_pid = server.pid;
            status = TL_OK;
        } else if (server.state == SERVER_STARTING || server.state == SERVER_STOPPING) {
            silent_since_us = tl__clock_us();
        }
        uint64_t now_us = tl__clock_us();
        if (status == TL_NOTHING &&
            (now_us >= deadline_us || now_us - silent_since_us >= SILENCE_LIMIT_US))
            status = no_answer(e, &server, err);
        if (status == TL_NOTHING) {
            if (!is_noticed && server.state == SERVER_STARTING && now_us - began_us > NOTICE_US) {
                is_noticed = true;
                tl__embedded_report(e, TL__EMBEDDED_RECOVERING);
            }
            tl__embedded_nap(server.pid_fd);
        }
        tl__embedded_look_done(&server);
        if (status != TL_NOTHING)
            return status;
    }
}

/* ------------------------------------------------------------------------------------- handle -- */

static tl__embedded *release(tl__embedded *e)
{
    /* users before the decision: whoever decides next must not see us */
    tl__embedded_close_fd(e->users_fd);
    tl__embedded_close_fd(e->lock_fd);
    tl__embedded_close_fd(e->dir_fd);
    free(e);
    return NULL;
}

static tl__embedded *new_handle(const tl__embedded_options *opts, tl__embedded_error *err)
{
    tl__embedded_clear(err);
    tl__embedded *e = calloc(1, sizeof(*e));
    if (!e) {
        tl__embedded_fail(err, TL_E_NOMEM, "out of memory");
        return NULL;
    }
    e->dir_fd = e->lock_fd = e->users_fd = -1;
    e->timeout_us = opts && opts->timeout_us ? opts->timeout_us : DEFAULT_TIMEOUT_US;
    e->stop_timeout_us =
        opts && opts->stop_timeout_us ? opts->stop_timeout_us : DEFAULT_STOP_TIMEOUT_US;
    e->progress = opts ? opts->progress : NULL;
    e->userdata = opts ? opts->userdata : NULL;
    return e;
}

static tl_status open_locks(tl__embedded *e, tl__embedded_error *err)
{
    e->lock_fd = tl__embedded_open_lock(e, LOCK_FILE);
    e->users_fd = e->lock_fd < 0 ? -1 : tl__embedded_open_lock(e, USERS_FILE);
    int server_fd = e->users_fd < 0 ? -1 : tl__embedded_open_lock(e, SERVER_FILE);
    if (server_fd < 0)
        return tl__embedded_fail(err, TL_E_SERVER, "could not open the lock files in \"%s\": %m",
                                 e->dir);
    tl__embedded_close_fd(server_fd);
    return TL_OK;
}

static uint64_t deadline_of(const tl__embedded *e)
{
    return tl__deadline_us(tl__clock_us(), e->timeout_us);
}

tl_status tl__embedded_ensure(tl__embedded *e, tl__embedded_error *err)
{
    tl__embedded_clear(err);
    uint64_t deadline_us = deadline_of(e);
    tl_status status = tl__embedded_wait_lock(e, e->lock_fd, deadline_us, err);
    if (status != TL_OK)
        return status;
    /* Cannot fail: it is taken exclusively only under the decision lock. */
    if (tl__embedded_try_lock(e->users_fd, LOCK_SH))
        status = bring_up(e, deadline_us, err);
    else
        status =
            tl__embedded_fail(err, TL_E_SERVER, "could not lock \"%s/%s\": %m", e->dir, USERS_FILE);
    (void)flock(e->lock_fd, LOCK_UN);
    return status;
}

tl_status tl__embedded_open(const tl__embedded_options *opts, tl__embedded **ret,
                            tl__embedded_error *err)
{
    tl__embedded *e = new_handle(opts, err);
    if (!e)
        return TL_E_NOMEM;
    tl_status status = tl__embedded_locate(e, opts, true, err);
    if (status == TL_OK)
        status = tl__embedded_find_user(&e->user, err);
    if (status == TL_OK)
        status = tl__embedded_claim_dir(e, err);
    if (status == TL_OK)
        status = open_locks(e, err);
    if (status == TL_OK)
        status = tl__embedded_ensure(e, err);
    if (status == TL_OK)
        *ret = e;
    else
        release(e);
    return status;
}

/* Under the decision lock: stop the server unless somebody is attached. */
static tl_status stop_if_unused(tl__embedded *e, tl__embedded_error *err)
{
    (void)flock(e->users_fd, LOCK_UN);
    return tl__embedded_try_lock(e->users_fd, LOCK_EX) ? tl__embedded_stop_server(e, err)
                                                       : TL_E_CONFLICT;
}

tl__embedded *tl__embedded_close(tl__embedded *e, tl__embedded_error *err)
{
    tl__embedded_clear(err);
    if (!e)
        return NULL;
    if (tl__embedded_wait_lock(e, e->lock_fd, deadline_of(e), err) == TL_OK)
        (void)stop_if_unused(e, err); /* somebody attached, nothing to stop: both fine */
    return release(e);
}

tl_status tl__embedded_stop(const tl__embedded_options *opts, tl__embedded_error *err)
{
    tl__embedded *e = new_handle(opts, err);
    if (!e)
        return TL_E_NOMEM;
    tl_status status = tl__embedded_locate(e, opts, false, err);
    if (status == TL_OK)
        status = tl__embedded_find_user(&e->user, err);
    if (status == TL_OK)
        status = tl__embedded_open_dir(e, err);
    if (status == TL_OK)
        status = open_locks(e, err);
    if (status == TL_OK)
        status = tl__embedded_wait_lock(e, e->lock_fd, deadline_of(e), err);
    if (status == TL_OK) {
        status = stop_if_unused(e, err);
        if (status == TL_E_CONFLICT) {
            tl__embedded_fail(err, TL_E_CONFLICT, "private PostgreSQL is in use");
            tl__embedded_detail(err, "another process is attached to \"%s\"", e->dir);
            tl__embedded_hint(err, "end it first: the last one to leave stops the server");
        }
    }
    release(e);
    return status;
}

tl_status tl__embedded_default_dir(const tl__embedded_options *opts, char *ret_dir, size_t size,
                                   tl__embedded_error *err)
{
    tl__embedded *e = new_handle(opts, err);
    if (!e)
        return TL_E_NOMEM;
    tl_status status = tl__embedded_locate(e, opts, true, err);
    if (status == TL_OK && strlen(e->dir) >= size)
        status = tl__embedded_fail(err, TL_E_INVALID, "name of the data directory is too long");
    if (status == TL_OK)
        snprintf(ret_dir, size, "%s", e->dir);
    release(e);
    return status;
}

const char *tl__embedded_conninfo(const tl__embedded *e)
{
    return e->conninfo;
}

const char *tl__embedded_dir(const tl__embedded *e)
{
    return e->dir;
}

pid_t tl__embedded_server_pid(const tl__embedded *e)
{
    return e->server_pid;
}

bool tl__embedded_was_started(const tl__embedded *e)
{
    return e->was_started;
}
