/*
 * exec.c: one blocking call: send, wait with a deadline, cancel on request, read to the end; and
 * the statements a client has prepared. It knows what a lost connection means for the outcome.
 */
#include "internal.h"

#include "clock.h"
#include "str.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

struct tl__cached {
    struct tl__cached *next;
    const char *template_text; /* static */
    char topic[TL_MAX_TOPIC_BYTES + 1];
    struct tl__statement statement;
};

/* -------------------------------------------------------------------------- waiting, results -- */

struct tl__exec tl__exec_start(tl_client *c, enum tl__effect effect)
{
    return (struct tl__exec){.c = c, .effect = effect, .deadline_us = c->deadline_us};
}

static bool is_outcome_unknown(const struct tl__exec *x)
{
    return x->effect == TL__WRITES && x->is_sent;
}

static tl_status interruption_error(struct tl__exec *x, tl_status status, const char *sqlstate)
{
    if (status == TL_E_CANCELLED)
        return tl__error_set(&x->c->error, status, sqlstate, "the call was cancelled");
    return tl__error_set(&x->c->error, status, sqlstate, "no answer from the server within %llu ms",
                         (unsigned long long)(x->c->settings.timeout_us / 1000));
}

/* The call shall end: ask the server once, then give it a moment; without an answer (or when the
 * statement has not even left) the connection is given up. */
static tl_status interrupt(struct tl__exec *x, tl_status why)
{
    char ignored[256];
    PGcancel *cancel;

    if (x->interruption == TL_OK && x->is_sent) {
        x->interruption = why;
        x->deadline_us = tl__deadline_us(tl__clock_us(), TL__CANCEL_GRACE_US);
        cancel = PQgetCancel(x->c->conn);
        if (cancel != NULL) {
            (void)PQcancel(cancel, ignored, sizeof ignored);
            PQfreeCancel(cancel);
        }
        return TL_OK;
    }
    if (x->interruption != TL_OK)
        why = x->interruption;
    tl__client_drop_conn(x->c);
    interruption_error(x, why, NULL);
    x->c->error.is_outcome_unknown = is_outcome_unknown(x);
    return why;
}

/* Wait until the socket is ready for any of `events` and read what has come. */
static tl_status wait_ready(struct tl__exec *x, short events)
{
    for (;;) {
        struct pollfd fds[2] = {
            {.fd = PQsocket(x->c->conn), .events = events},
            {.fd = x->interruption == TL_OK ? x->c->cancel_fd : -1, .events = POLLIN}};
        int n = poll(fds, 2, tl__poll_ms(tl__clock_us(), x->deadline_us));
        tl_status status = TL_OK;

        if (n < 0 && errno != EINTR)
            return tl__error_set(&x->c->error, TL_E_SERVER, NULL, "cannot wait for the server");
        if (n > 0 && fds[0].revents != 0) {
            if ((fds[0].revents & ~POLLOUT) != 0)
                (void)PQconsumeInput(x->c->conn); /* a failure shows in the next result */
            return TL_OK;
        }
        if (n > 0 && fds[1].revents != 0)
            status = interrupt(x, TL_E_CANCELLED);
        else if (n == 0 && tl__clock_us() >= x->deadline_us)
            status = interrupt(x, TL_E_TIMEOUT);
        if (status != TL_OK)
            return status;
    }
}

static tl_status connection_lost(struct tl__exec *x)
{
    tl__error_from_conn(&x->c->error, x->c->conn, is_outcome_unknown(x));
    tl__client_drop_conn(x->c);
    return TL_E_CONNECTION;
}

tl_status tl__exec_flush(struct tl__exec *x)
{
    int left;

    while ((left = PQflush(x->c->conn)) > 0) {
        tl_status status = wait_ready(x, POLLIN | POLLOUT);

        if (status != TL_OK)
            return status;
    }
    return left == 0 ? TL_OK : connection_lost(x);
}

tl_status tl__exec_result(struct tl__exec *x, PGresult **ret)
{
    while (PQisBusy(x->c->conn) && PQstatus(x->c->conn) == CONNECTION_OK) {
        tl_status status = wait_ready(x, POLLIN);

        if (status != TL_OK)
            return status;
    }
    *ret = PQgetResult(x->c->conn);
    return TL_OK;
}

tl_status tl__exec_error(struct tl__exec *x, const PGresult *res)
{
    const char *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);

    if (x->interruption != TL_OK && sqlstate != NULL && strcmp(sqlstate, "57014") == 0)
        return interruption_error(x, x->interruption, sqlstate);
    return tl__error_from_result(&x->c->error, res, is_outcome_unknown(x));
}

static bool is_good(const PGresult *res)
{
    ExecStatusType status = PQresultStatus(res);

    return status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
}

tl_status tl__exec_finish(struct tl__exec *x, PGresult **ret)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *good = NULL;
    TL_CLEANUP(tl__pqclearp)
    PGresult *bad = NULL;

    /* A row or "INSERT 0 1" is not yet a commit: that comes with the end of the statement. */
    for (;;) {
        PGresult *res;
        tl_status status = tl__exec_result(x, &res);

        if (status != TL_OK)
            return status;
        if (res == NULL)
            break;
        if (is_good(res)) {
            PQclear(good);
            good = res;
        } else if (bad == NULL) {
            bad = res;
        } else {
            PQclear(res);
        }
        if (PQstatus(x->c->conn) != CONNECTION_OK)
            break;
    }
    if (bad != NULL) {
        tl_status status = tl__exec_error(x, bad);

        if (PQstatus(x->c->conn) != CONNECTION_OK)
            tl__client_drop_conn(x->c);
        return status;
    }
    if (PQstatus(x->c->conn) != CONNECTION_OK || good == NULL)
        return connection_lost(x);
    if (ret != NULL)
        *ret = TL_STEAL(good);
    return TL_OK;
}

/* ------------------------------------------------------------------------------ statements -- */

void tl__cached_free(struct tl__cached *list)
{
    while (list != NULL) {
        struct tl__cached *next = list->next;

        tl__statement_done(&list->statement);
        free(list);
        list = next;
    }
}

tl_status tl__cached_get(struct tl__cached **list, struct tl_error *e, const char *schema_quoted,
                         const char *topic, const char *template_text, struct tl__statement **ret)
{
    struct tl__cached **at = list;
    struct tl__cached *found;
    tl_status status;

    while (*at != NULL && ((*at)->template_text != template_text ||
                           strcmp((*at)->topic, topic != NULL ? topic : "") != 0))
        at = &(*at)->next;
    found = *at;
    if (found != NULL) {
        *at = found->next;
    } else {
        found = calloc(1, sizeof *found);
        if (found == NULL)
            return tl__error_nomem(e);
        status = tl__statement_init(&found->statement, e, schema_quoted, topic, template_text);
        if (status != TL_OK) {
            free(found);
            return status;
        }
        found->template_text = template_text;
        tl__str_copy(found->topic, sizeof found->topic, topic != NULL ? topic : "");
    }
    found->next = *list;
    *list = found;
    *ret = &found->statement;
    return TL_OK;
}

static tl_status prepare(tl_client *c, struct tl__statement *st)
{
    struct tl__exec x = tl__exec_start(c, TL__READS);
    tl_status status;

    if (!PQsendPrepare(c->conn, st->name, st->sql, 0, NULL))
        return connection_lost(&x);
    status = tl__exec_flush(&x);
    if (status != TL_OK)
        return status;
    x.is_sent = true;
    status = tl__exec_finish(&x, NULL);
    /* The name is a digest of the text: a statement of this name is this statement, prepared by
     * somebody else behind the same proxy. */
    if (status != TL_OK && strcmp(c->error.sqlstate, "42P05") == 0) {
        tl__error_clear(&c->error);
        status = TL_OK;
    }
    if (status == TL_OK)
        st->prepared_on = c->generation;
    return status;
}

tl_status tl__client_statement(tl_client *c, const char *topic, const char *template_text,
                               struct tl__statement **ret)
{
    struct tl__statement *st = NULL;
    tl_status status =
        tl__cached_get(&c->cached, &c->error, c->settings.schema_quoted, topic, template_text, &st);

    if (status != TL_OK || st == NULL)
        return status;
    *ret = st;
    return c->is_unprepared || st->prepared_on == c->generation ? TL_OK : prepare(c, st);
}

bool tl__client_send(tl_client *c, const struct tl__statement *st, const struct tl__params *p)
{
    if (c->is_unprepared)
        return PQsendQueryParams(c->conn, st->sql, p->n, NULL, p->values, p->lengths, p->formats,
                                 1) != 0;
    return PQsendQueryPrepared(c->conn, st->name, p->n, p->values, p->lengths, p->formats, 1) != 0;
}

bool tl__client_is_vanished(tl_client *c, struct tl__statement *st)
{
    if (c->is_unprepared || strcmp(c->error.sqlstate, "26000") != 0)
        return false;
    st->prepared_on = 0;
    if (++c->vanished_count >= TL__MAX_VANISHED) {
        c->is_unprepared = true;
        tl__log(&c->settings, TL_LOG_WARN,
                "prepared statements do not last on this connection "
                "(a pooling proxy?); doing without");
    }
    tl__error_clear(&c->error);
    return true;
}

/* ----------------------------------------------------------------------------------- calls -- */

tl_status tl__call(tl_client *c, enum tl__effect effect, const char *topic,
                   const char *template_text, const struct tl__params *params, PGresult **ret)
{
    static const struct tl__params none;
    struct tl__statement *st;
    tl_status status;

    if (params == NULL)
        params = &none;
    for (;;) {
        struct tl__exec x = tl__exec_start(c, effect);

        status = tl__client_statement(c, topic, template_text, &st);
        if (status != TL_OK)
            return status;
        if (!tl__client_send(c, st, params))
            return connection_lost(&x);
        status = tl__exec_flush(&x);
        if (status != TL_OK)
            return status;
        x.is_sent = true;
        status = tl__exec_finish(&x, ret);
        if (status == TL_OK || !tl__client_is_vanished(c, st))
            return status;
    }
}

tl_status tl__call_simple(tl_client *c, enum tl__effect effect, const char *sql, PGresult **ret)
{
    struct tl__exec x = tl__exec_start(c, effect);
    tl_status status;

    if (!PQsendQuery(c->conn, sql))
        return connection_lost(&x);
    status = tl__exec_flush(&x);
    if (status != TL_OK)
        return status;
    x.is_sent = true;
    return tl__exec_finish(&x, ret);
}
