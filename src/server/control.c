/*
 * control.c: see control.h.
 *
 * @thread: everything but start, wake and stop runs on control's own thread.
 * @locks: `lock` guards is_stopping, is_woken, is_noted, has_ended and the exchange of `client`.
 */
#include "control.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "buf.h"
#include "cleanup.h"
#include "clock.h"
#include "log.h"
#include "webhooks.h"

static const uint64_t LOOK_INTERVAL_US = 1000000;
static const uint64_t FLUSH_INTERVAL_US = 50000; /* of the journal, so that entries go together */
/* A server that answers nothing, not even a cancel request, may hold the thread for good. */
static const uint64_t STOP_PATIENCE_US = 2000000;

struct tl__control {
    struct tl__control_settings settings;
    uv_thread_t thread;
    uv_mutex_t lock;
    uv_cond_t changed;
    bool is_stopping, is_woken, is_noted, has_ended;
    tl_client *client; /* NULL: not connected */
    struct tl__webhooks webhooks;
    uint64_t looked_at_us, flushed_at_us;
    bool is_leader, has_complained;
    uint64_t maintained_at_us; /* 0: not yet by this leader */
};

static void pgclearp(PGresult **result)
{
    PQclear(*result);
    *result = NULL;
}

/* ------------------------------------------------------------------------------------------ SQL */

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
    PGresult *result =
        text.is_failed ? NULL : PQexecParams(conn, text.data, n, NULL, values, NULL, NULL, 0);
    if (PQresultStatus(result) == PGRES_TUPLES_OK)
        return result;
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    tl__log_event(TL_LOG_WARN, event, "message", message ? message : PQerrorMessage(conn),
                  "sqlstate", PQresultErrorField(result, PG_DIAG_SQLSTATE), NULL);
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
    c->is_leader = false;
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

static void lead(struct tl__control *c)
{
    uint64_t now = tl__clock_us();

    if (!c->is_leader) { /* asked once only: the lock would count */
        /* Behind a proxy that pools transactions the lock would stay in a session of others. Then
         * everybody leads; maintain() lets one at a time. */
        char text[128];
        (void)snprintf(text, sizeof text,
                       "SELECT CASE WHEN pg_backend_pid() = %d THEN @schema@.leader_try() "
                       "ELSE true END",
                       PQbackendPID(tl_client_pgconn(c->client)));
        TL_CLEANUP(pgclearp)
        PGresult *r = query(c, "election_failed", text);
        if (!r || *PQgetvalue(r, 0, 0) != 't')
            return;
        c->is_leader = true;
        c->maintained_at_us = 0;
        tl__log_event(TL_LOG_INFO, "leader", NULL);
    }
    if (c->maintained_at_us &&
        now - c->maintained_at_us < c->settings.options->maintain_interval_us)
        return;
    c->maintained_at_us = now;
    TL_CLEANUP(pgclearp)
    PGresult *r =
        query(c, "maintain_failed", "SELECT action, object, detail FROM @schema@.maintain()");
    for (int i = 0; r && i < PQntuples(r); i++)
        tl__log_event(TL_LOG_INFO, "maintain", "action", PQgetvalue(r, i, 0), "object",
                      PQgetvalue(r, i, 1), "detail", PQgetvalue(r, i, 2), NULL);
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

/* Until it is time to look or to flush; false: stop. */
static bool wait_for_turn(struct tl__control *c)
{
    uint64_t now;

    uv_mutex_lock(&c->lock);
    while (!c->is_stopping && !c->is_woken &&
           (now = tl__clock_us()) < c->looked_at_us + LOOK_INTERVAL_US) {
        uint64_t until = c->looked_at_us + LOOK_INTERVAL_US;
        if (c->is_noted && until > c->flushed_at_us + FLUSH_INTERVAL_US)
            until = c->flushed_at_us + FLUSH_INTERVAL_US;
        if (until <= now)
            break;
        uv_cond_timedwait(&c->changed, &c->lock, (until - now) * 1000);
    }
    if (c->is_woken)
        c->looked_at_us = 0;
    c->is_woken = c->is_noted = false;
    bool is_stopping = c->is_stopping;
    uv_mutex_unlock(&c->lock);
    return !is_stopping;
}

static void take_turn(struct tl__control *c)
{
    bool is_flushed = tl__webhooks_flush(&c->webhooks);

    c->flushed_at_us = tl__clock_us();
    if (is_flushed && c->flushed_at_us >= c->looked_at_us + LOOK_INTERVAL_US) {
        c->looked_at_us = c->flushed_at_us;
        look(c);
        lead(c);
    }
    if (PQstatus(tl_client_pgconn(c->client)) != CONNECTION_OK)
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
        (void)tl__webhooks_flush(&c->webhooks);
    disconnect(c); /* gives up the leadership with the session */
    uv_mutex_lock(&c->lock);
    c->has_ended = true;
    uv_cond_signal(&c->changed);
    uv_mutex_unlock(&c->lock);
}

/* --------------------------------------------------------------------------------------- thread */

struct tl__control *tl__control_start(const struct tl__control_settings *settings)
{
    struct tl__control *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->settings = *settings;
    tl__webhooks_init(&c->webhooks, query_with, c, settings->journal);
    uv_mutex_init(&c->lock);
    uv_cond_init(&c->changed);
    if (uv_thread_create(&c->thread, run, c) == 0)
        return c;
    uv_cond_destroy(&c->changed);
    uv_mutex_destroy(&c->lock);
    free(c);
    return NULL;
}

void tl__control_wake(struct tl__control *c)
{
    uv_mutex_lock(&c->lock);
    c->is_woken = true;
    uv_cond_signal(&c->changed);
    uv_mutex_unlock(&c->lock);
}

void tl__control_note(struct tl__control *c)
{
    uv_mutex_lock(&c->lock);
    if (!c->is_noted)
        uv_cond_signal(&c->changed);
    c->is_noted = true;
    uv_mutex_unlock(&c->lock);
}

bool tl__control_stop(struct tl__control *c)
{
    uint64_t until = tl__clock_us() + STOP_PATIENCE_US, now;

    if (!c)
        return true;
    uv_mutex_lock(&c->lock);
    c->is_stopping = true;
    uv_cond_signal(&c->changed);
    if (c->client)
        tl_client_cancel(c->client);
    while (!c->has_ended && (now = tl__clock_us()) < until)
        uv_cond_timedwait(&c->changed, &c->lock, (until - now) * 1000);
    bool has_ended = c->has_ended;
    uv_mutex_unlock(&c->lock);
    if (!has_ended)
        return false;
    uv_thread_join(&c->thread);
    uv_cond_destroy(&c->changed);
    uv_mutex_destroy(&c->lock);
    free(c);
    return true;
}
