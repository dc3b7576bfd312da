/*
 * control.c: see control.h.
 *
 * @thread: everything but start, wake and stop runs on control's own thread.
 * @locks: `lock` guards is_stopping, is_woken, is_noted, has_ended and the exchange of `client`.
 */
#include "control.h"

#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <uv.h>

#include "buf.h"
#include "cleanup.h"
#include "clock.h"
#include "log.h"
#include "webhooks.h"

static const uint64_t LOOK_INTERVAL_US = 1000000;
/* A call takes milliseconds, maintenance seconds. A connection that is half-open answers never. */
static const uint64_t ANSWER_LIMIT_US = 30000000;
static const uint64_t FLUSH_INTERVAL_US = 50000; /* of the journal, so that entries go together */
/* A server that answers nothing, not even a cancel request, may hold the thread for good. */
static const uint64_t STOP_PATIENCE_US = 2000000;
/* Calls of move_due() before subscriptions get a look again. */
enum { MOVES_IN_A_ROW = 10 };

struct tl__control {
    struct tl__control_settings settings;
    uv_thread_t thread;
    uv_mutex_t lock;
    uv_cond_t ended;
    int wake_fd; /* eventfd */
    bool is_stopping, is_woken, is_noted, has_ended;
    tl_client *client; /* NULL: not connected */
    struct tl__webhooks webhooks;
    uint64_t looked_at_us, flushed_at_us;
    bool is_hung;                    /* the connection did not answer in time */
    char refusal[TL__SQLSTATE_SIZE]; /* of the last query that failed, by the server; else empty */
    bool is_leader, has_complained;
    uint64_t maintained_at_us; /* 0: not yet by this leader */
    bool may_maintain;         /* it worked the last time */
    uint64_t due_at_us; /* next delayed event or schedule, or when to ask again; 0: ask now */
};

static void pgclearp(PGresult **result)
{
    PQclear(*result);
    *result = NULL;
}

/* ------------------------------------------------------------------------------------------ SQL */

/* As PQexecParams, but not for ever; NULL with is_hung: no answer in time. What the server does with
 * the statement is left to it. */
static PGresult *ask(struct tl__control *c, PGconn *conn, const char *sql, int n,
                     const char *const *values)
{
    uint64_t until = tl__clock_us() + ANSWER_LIMIT_US, now;
    PGresult *result = NULL, *next;

    if (!PQsendQueryParams(conn, sql, n, NULL, values, NULL, NULL, 0))
        return NULL;
    do {
        while (PQisBusy(conn) && PQstatus(conn) == CONNECTION_OK) {
            struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN};

            if ((now = tl__clock_us()) >= until) {
                c->is_hung = true;
                PQclear(result);
                return NULL;
            }
            (void)poll(&fd, 1, tl__poll_ms(now, until));
            (void)PQconsumeInput(conn); /* a failure shows in the result */
        }
        next = PQgetResult(conn);
        if (next) {
            PQclear(result);
            result = next;
        }
    } while (next);
    return result;
}

/* One statement with text parameters; `sql` names the schema as @schema@ (checked to be a plain
 * name). NULL: failed and logged, and the connection is given up if that is the cause. */
static PGresult *query_with(void *control, const char *event, const char *sql, int n,
                            const char *const *values)
{
    struct tl__control *c = control;
    TL_CLEANUP(tl__buf_done)
    struct tl__buf text = TL_BUF_INIT;
    static const char token[] = "@schema@";
    const char *next;

    for (; (next = strstr(sql, token)); sql = next + sizeof token - 1) {
        tl__buf_add(&text, sql, (size_t)(next - sql));
        tl__buf_addf(&text, "\"%s\"", tl_client_schema(c->client));
    }
    tl__buf_add_str(&text, sql);
    PGconn *conn = tl_client_pgconn(c->client);
    c->refusal[0] = 0;
    if (c->is_hung)
        return NULL;
    PGresult *result = text.is_failed ? NULL : ask(c, conn, text.data, n, values);
    if (PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK)
        return result;
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    /* a session that was ended has refused nothing */
    bool is_lost = c->is_hung || PQstatus(conn) != CONNECTION_OK;
    (void)snprintf(c->refusal, sizeof c->refusal, "%s", is_lost || !sqlstate ? "" : sqlstate);
    if (c->is_hung)
        message = "no answer from the server within 30 s";
    tl__log_event(TL_LOG_WARN, event, "message", message ? message : PQerrorMessage(conn),
                  "sqlstate", sqlstate, NULL);
    PQclear(result);
    return NULL;
}

static PGresult *query(struct tl__control *c, const char *event, const char *sql)
{
    return query_with(c, event, sql, 0, NULL);
}

/* ----------------------------------------------------------------------------------- connection */

static void disconnect(struct tl__control *c)
{
    uv_mutex_lock(&c->lock);
    tl_client *client = c->client;
    c->client = NULL;
    uv_mutex_unlock(&c->lock);
    tl_client_close(client);
    c->is_leader = c->is_hung = false;
}

static bool is_stopping(struct tl__control *c)
{
    uv_mutex_lock(&c->lock);
    bool is_stopping = c->is_stopping;
    uv_mutex_unlock(&c->lock);
    return is_stopping;
}

static bool connect_once(struct tl__control *c)
{
    const struct tl__serve_options *options = c->settings.options;
    tl_client *client = NULL;
    tl_status status = tl_client_open(options->conninfo, &options->client, &client);

    if (status != TL_OK) {
        if (!c->has_complained)
            tl__log_error(TL_LOG_WARN, "database_lost", status,
                          client ? tl_client_error(client) : NULL);
        c->has_complained = true;
        tl_client_close(client);
        if (status == TL_E_CONNECTION && options->ensure_database && !is_stopping(c))
            options->ensure_database(options->userdata);
        return false;
    }
    if (c->has_complained)
        tl__log_event(TL_LOG_INFO, "database_back", NULL);
    c->has_complained = false;
    uv_mutex_lock(&c->lock);
    c->client = client;
    uv_mutex_unlock(&c->lock);
    return true;
}

/* ----------------------------------------------------------------------------------------- work */

static void stand_for_leader(struct tl__control *c)
{
    /* Behind a proxy that pools transactions the lock would stay in a session of others. Then
     * everybody leads; maintain() and move_due() let one at a time. */
    char text[128];
    (void)snprintf(text, sizeof text,
                   "SELECT m, CASE WHEN m THEN @schema@.leader_try() ELSE true END "
                   "FROM (SELECT pg_backend_pid() = %d) AS q (m)",
                   PQbackendPID(tl_client_pgconn(c->client)));
    TL_CLEANUP(pgclearp)
    PGresult *r = query(c, "election_failed", text);
    if (!r || *PQgetvalue(r, 0, 1) != 't')
        return;
    if (*PQgetvalue(r, 0, 0) == 't') { /* a session of our own; else the look has to do */
        (void)snprintf(text, sizeof text, "LISTEN \"%s.due\"", tl_client_schema(c->client));
        PGresult *listens = query(c, "listen_failed", text);
        PQclear(listens);
    }
    c->is_leader = true;
    c->maintained_at_us = c->due_at_us = 0;
    tl__log_event(TL_LOG_INFO, "leader", NULL);
}

static void maintain(struct tl__control *c)
{
    uint64_t now = tl__clock_us();

    if (c->maintained_at_us &&
        now - c->maintained_at_us < c->settings.options->maintain_interval_us) {
        if (c->may_maintain) { /* readers of standbys see events as late as this comes */
            PGresult *published =
                query(c, "publish_horizons_failed", "SELECT @schema@.publish_horizons()");
            PQclear(published);
        }
        return;
    }
    c->maintained_at_us = now;
    TL_CLEANUP(pgclearp)
    PGresult *r =
        query(c, "maintain_failed", "SELECT action, object, detail FROM @schema@.maintain()");
    c->may_maintain = r != NULL;
    for (int i = 0; r && i < PQntuples(r); i++)
        tl__log_event(TL_LOG_INFO, "maintain", "action", PQgetvalue(r, i, 0), "object",
                      PQgetvalue(r, i, 1), "detail", PQgetvalue(r, i, 2), NULL);
}

/* Delayed events and schedules that are due now, and when the next ones will be. */
static void move_due(struct tl__control *c)
{
    c->due_at_us = tl__clock_us() + LOOK_INTERVAL_US; /* unless we learn better */
    for (int i = 0; i < MOVES_IN_A_ROW; i++) {
        TL_CLEANUP(pgclearp)
        PGresult *next = query(c, "move_failed", "SELECT @schema@.next_scheduled()");
        if (!next)
            return;
        uint64_t wait_us =
            PQgetisnull(next, 0, 0) ? LOOK_INTERVAL_US : strtoull(PQgetvalue(next, 0, 0), NULL, 10);
        if (wait_us > 0) {
            if (wait_us < LOOK_INTERVAL_US)
                c->due_at_us = tl__clock_us() + wait_us;
            return;
        }
        TL_CLEANUP(pgclearp)
        PGresult *fired = query(c, "fire_failed", "SELECT @schema@.fire_schedules()");
        TL_CLEANUP(pgclearp)
        PGresult *moved = query(c, "move_failed", "SELECT @schema@.move_due()");
        /* Nothing: somebody else is at it, or what is due is locked by a cancel(). */
        if (!fired || !moved ||
            (strcmp(PQgetvalue(fired, 0, 0), "0") == 0 &&
             strcmp(PQgetvalue(moved, 0, 0), "0") == 0))
            return;
    }
    c->due_at_us = 0;
}

static char *copy_value(const PGresult *r, int row, int column)
{
    return PQgetisnull(r, row, column) ? NULL : PQgetvalue(r, row, column);
}

static void look(struct tl__control *c)
{
    TL_CLEANUP(pgclearp)
    PGresult *r = query(
        c, "look_failed",
        "SELECT s.subscription_id, s.name, s.target,"
        " (SELECT pg_catalog.format('SELECT %I.%I($1::pg_catalog.jsonb)', n.nspname, p.proname)"
        "    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
        "   WHERE p.oid = @schema@.target_function(s.target)),"
        " (SELECT CASE WHEN s.registered_by = session_user THEN ''"
        "    WHEN pg_catalog.pg_has_role(session_user, r.oid, CASE WHEN"
        "      pg_catalog.current_setting('server_version_num')::int >= 160000"
        "      THEN 'SET' ELSE 'MEMBER' END) THEN pg_catalog.quote_ident(r.rolname) END"
        "    FROM pg_catalog.pg_roles r WHERE r.rolname = s.registered_by),"
        " (extract(epoch FROM s.timeout) * 1000000)::bigint, s.target_options ->> 'concurrency'"
        " FROM @schema@.subscriptions s WHERE s.active AND s.target IS NOT NULL"
        /* those run in the publisher's transaction */
        " AND NOT (s.mode = 'sync' AND s.target LIKE 'sql:%')"
        " ORDER BY s.priority DESC, s.name");
    if (!r)
        return;
    int rows = PQntuples(r);
    struct tl__subscription_list list = {
        .items = calloc((size_t)rows + 1, sizeof(struct tl__subscription))};
    for (int i = 0; list.items && i < rows; i++)
        list.items[list.count++] = (struct tl__subscription){
            .id = strtoll(PQgetvalue(r, i, 0), NULL, 10),
            .name = copy_value(r, i, 1), /* borrowed from r */
            .target = copy_value(r, i, 2),
            .call = copy_value(r, i, 3),
            .role = copy_value(r, i, 4),
            .timeout_us = strtoull(PQgetvalue(r, i, 5), NULL, 10),
            .concurrency = (uint32_t)strtoul(PQgetvalue(r, i, 6), NULL, 10),
        };
    TL_CLEANUP(pgclearp)
    PGresult *webhooks = list.items ? tl__webhooks_load(&c->webhooks, &list) : NULL;
    if (webhooks)
        c->settings.on_list(&list, c->settings.userdata);
    free(list.items);
    struct tl__resends *resends = webhooks ? tl__webhooks_resends(&c->webhooks) : NULL;
    if (resends)
        c->settings.on_resends(resends, c->settings.userdata);
}

/* When there is something to do next; what has passed means now. */
static uint64_t next_turn(struct tl__control *c)
{
    uint64_t until = c->looked_at_us + LOOK_INTERVAL_US;

    if (c->client && c->is_leader && c->due_at_us < until)
        until = c->due_at_us;
    uv_mutex_lock(&c->lock);
    if (c->is_noted && until > c->flushed_at_us + FLUSH_INTERVAL_US)
        until = c->flushed_at_us + FLUSH_INTERVAL_US;
    if (c->is_stopping || c->is_woken)
        until = 0;
    uv_mutex_unlock(&c->lock);
    return until;
}

/* Until it is time to look, to flush or to move; false: stop. */
static bool wait_for_turn(struct tl__control *c)
{
    for (;;) {
        PGconn *conn = c->client ? tl_client_pgconn(c->client) : NULL;
        struct pollfd fds[2] = {{.fd = c->wake_fd, .events = POLLIN},
                                {.fd = conn ? PQsocket(conn) : -1, .events = POLLIN}};
        PGnotify *notice;
        uint64_t now, until, count;

        if (conn && (!PQconsumeInput(conn) || PQstatus(conn) != CONNECTION_OK))
            break; /* the turn sees that it is lost */
        /* first: a query may have read them on its way */
        for (; conn && (notice = PQnotifies(conn)); PQfreemem(notice))
            c->due_at_us = 0;
        until = next_turn(c);
        if ((now = tl__clock_us()) >= until)
            break;
        (void)poll(fds, 2, tl__poll_ms(now, until));
        (void)!read(c->wake_fd, &count, sizeof count);
    }
    uv_mutex_lock(&c->lock);
    if (c->is_woken)
        c->looked_at_us = 0;
    c->is_woken = c->is_noted = false;
    bool is_stopping = c->is_stopping;
    uv_mutex_unlock(&c->lock);
    return !is_stopping;
}

static void take_turn(struct tl__control *c)
{
    bool is_flushed = tl__webhooks_flush(&c->webhooks, false);

    c->flushed_at_us = tl__clock_us();
    if (is_flushed && c->flushed_at_us >= c->looked_at_us + LOOK_INTERVAL_US) {
        c->looked_at_us = c->flushed_at_us;
        look(c);
        if (!c->is_leader)
            stand_for_leader(c);
        if (c->is_leader)
            maintain(c);
    }
    if (c->is_leader && tl__clock_us() >= c->due_at_us)
        move_due(c);
    if (c->is_hung || PQstatus(tl_client_pgconn(c->client)) != CONNECTION_OK)
        disconnect(c);
}

static void run(void *userdata)
{
    struct tl__control *c = userdata;

    do {
        if (c->client || connect_once(c))
            take_turn(c);
        else
            c->looked_at_us = tl__clock_us(); /* not before the next turn */
    } while (wait_for_turn(c));
    if (c->client)
        (void)tl__webhooks_flush(&c->webhooks, true);
    disconnect(c); /* gives up the leadership with the session */
    uv_mutex_lock(&c->lock);
    c->has_ended = true;
    uv_cond_signal(&c->ended);
    uv_mutex_unlock(&c->lock);
}

/* --------------------------------------------------------------------------------------- thread */

static void control_free(struct tl__control *c)
{
    uv_cond_destroy(&c->ended);
    uv_mutex_destroy(&c->lock);
    if (c->wake_fd >= 0)
        close(c->wake_fd);
    free(c);
}

struct tl__control *tl__control_start(const struct tl__control_settings *settings)
{
    struct tl__control *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->settings = *settings;
    tl__webhooks_init(&c->webhooks, query_with, c, c->refusal, settings->journal);
    uv_mutex_init(&c->lock);
    uv_cond_init(&c->ended);
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->wake_fd >= 0 && uv_thread_create(&c->thread, run, c) == 0)
        return c;
    control_free(c);
    return NULL;
}

void tl__control_wake(struct tl__control *c)
{
    uv_mutex_lock(&c->lock);
    c->is_woken = true;
    uv_mutex_unlock(&c->lock);
    (void)eventfd_write(c->wake_fd, 1);
}

void tl__control_note(struct tl__control *c)
{
    uv_mutex_lock(&c->lock);
    bool is_first = !c->is_noted;
    c->is_noted = true;
    uv_mutex_unlock(&c->lock);
    if (is_first)
        (void)eventfd_write(c->wake_fd, 1);
}

bool tl__control_stop(struct tl__control *c)
{
    uint64_t until = tl__clock_us() + STOP_PATIENCE_US, now;

    if (!c)
        return true;
    uv_mutex_lock(&c->lock);
    c->is_stopping = true;
    (void)eventfd_write(c->wake_fd, 1);
    if (c->client)
        tl_client_cancel(c->client);
    while (!c->has_ended && (now = tl__clock_us()) < until)
        uv_cond_timedwait(&c->ended, &c->lock, (until - now) * 1000);
    bool has_ended = c->has_ended;
    uv_mutex_unlock(&c->lock);
    if (!has_ended)
        return false;
    uv_thread_join(&c->thread);
    control_free(c);
    return true;
}
