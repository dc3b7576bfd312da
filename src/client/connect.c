/*
 * connect.c: libpq connections made with a client's settings, step by step for a worker's loop or
 * blocking for a call. Not the schema check (client.c), not retries (worker, waiter).
 */
#include "internal.h"

#include "clock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

void tl__log(const struct tl__settings *s, tl_log_level level, const char *format, ...)
{
    char message[1024];
    va_list args;

    if (s->log == NULL)
        return;
    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args);
    va_end(args);
    s->log(level, message, s->log_userdata);
}

/* The library prints nothing; libpq would write notices to stderr. */
static void ignore_notice(void *arg, const PGresult *res)
{
    (void)arg;
    (void)res;
}

/* libpq quotes what it cannot parse, and that may be a piece of a password: parse first and say
 * only that it failed. A bare word is a database name and is not parsed. */
static tl_status check_conninfo(const char *conninfo, struct tl_error *e)
{
    PQconninfoOption *options;

    if (strchr(conninfo, '=') == NULL && strstr(conninfo, "://") == NULL)
        return TL_OK;
    options = PQconninfoParse(conninfo, NULL);
    if (options != NULL) {
        PQconninfoFree(options);
        return TL_OK;
    }
    tl__error_set(e, TL_E_INVALID, NULL, "connection string cannot be parsed");
    tl__error_set_hint(e, "write key=value pairs, values with spaces in '...', or a postgresql:// "
                          "URI with special characters as %%XX");
    if (e != NULL)
        e->is_fatal = true;
    return TL_E_INVALID;
}

PGconn *tl__connect_start(const struct tl__settings *s, struct tl_error *e)
{
    /* Before dbname: defaults that conninfo may override. After it: what it may not. A peer that
     * went away without a word is noticed within about 45 s, or 15 s while we are sending. */
    const char *keywords[] = {"keepalives_idle",  "keepalives_interval",       "keepalives_count",
                              "tcp_user_timeout", "fallback_application_name", "dbname",
                              "client_encoding",  "application_name",          NULL};
    const char *values[] = {
        "30", "5", "3", "15000", "libtrunkline", s->conninfo, "UTF8", s->application_name, NULL};
    PGconn *conn;

    if (check_conninfo(s->conninfo, e) != TL_OK)
        return NULL;
    conn = PQconnectStartParams(keywords, values, 1);
    if (conn == NULL) {
        tl__error_nomem(e);
        return NULL;
    }
    if (PQstatus(conn) == CONNECTION_BAD) {
        tl__error_from_conn(e, conn, false);
        PQfinish(conn);
        return NULL;
    }
    (void)PQsetNoticeReceiver(conn, ignore_notice, NULL);
    return conn;
}

tl_status tl__connect_poll(PGconn *conn, struct tl_error *e, short *ret_events)
{
    switch (PQconnectPoll(conn)) {
    case PGRES_POLLING_OK:
        return TL_OK;
    case PGRES_POLLING_READING:
        *ret_events = POLLIN;
        return TL_NOTHING;
    case PGRES_POLLING_WRITING:
        *ret_events = POLLOUT;
        return TL_NOTHING;
    default:
        return tl__error_from_conn(e, conn, false);
    }
}

tl_status tl__connect(const struct tl__settings *s, int wake_fd, struct tl_error *e,
                      PGconn **ret_conn)
{
    uint64_t deadline_us = tl__deadline_us(tl__clock_us(), s->connect_timeout_us);
    TL_CLEANUP(tl__pqfinishp)
    PGconn *conn = tl__connect_start(s, e);
    /* The first wait is for writing, as libpq's documentation has it. */
    short events = POLLOUT;

    if (conn == NULL)
        return e != NULL ? e->status : TL_E_CONNECTION;
    for (;;) {
        struct pollfd fds[2] = {{.fd = PQsocket(conn), .events = events},
                                {.fd = wake_fd, .events = POLLIN}};
        int n = poll(fds, 2, tl__poll_ms(tl__clock_us(), deadline_us));
        tl_status status;

        if (n < 0 && errno != EINTR)
            return tl__error_set(e, TL_E_CONNECTION, NULL, "cannot wait for a connection");
        if (n > 0 && fds[1].revents != 0)
            return tl__error_set(e, TL_E_CANCELLED, NULL, "connecting was cancelled");
        if (n == 0 && tl__clock_us() >= deadline_us) {
            const char *host = PQhost(conn);

            return tl__error_set(e, TL_E_CONNECTION, NULL,
                                 "cannot connect to %s: no answer within %llu ms",
                                 host != NULL && host[0] != '\0' ? host : "the server",
                                 (unsigned long long)(s->connect_timeout_us / 1000));
        }
        if (n <= 0)
            continue;
        status = tl__connect_poll(conn, e, &events);
        if (status == TL_OK) {
            *ret_conn = TL_STEAL(conn);
            return TL_OK;
        }
        if (status != TL_NOTHING)
            return status;
    }
}

/* A session that the server ended says so first, as a notice when no query runs. */
static void note_end(void *arg, const PGresult *res)
{
    const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);

    if (severity != NULL && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0))
        *(bool *)arg = true;
}

/* Parse what has been read; was it the server's farewell? The close may be still to come. */
static bool was_farewell(PGconn *conn)
{
    bool is_end = false;

    if (PQsetNoticeReceiver(conn, NULL, NULL) != ignore_notice)
        return false; /* the caller looks at notices */
    (void)PQsetNoticeReceiver(conn, note_end, &is_end);
    (void)PQisBusy(conn);
    (void)PQsetNoticeReceiver(conn, ignore_notice, NULL);
    return is_end;
}

bool tl__conn_is_alive(PGconn *conn)
{
    struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN};

    /* Read until nothing comes: a close is seen by the read behind the last message only. */
    for (int i = 0; i < 100 && PQstatus(conn) == CONNECTION_OK; i++) {
        if (poll(&fd, 1, 0) <= 0)
            return true;
        if (!PQconsumeInput(conn) || was_farewell(conn))
            return false;
    }
    return PQstatus(conn) == CONNECTION_OK;
}
