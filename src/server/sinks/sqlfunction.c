/*
 * sqlfunction.c: targets "sql:schema.function": the function gets the event as one jsonb argument,
 * in one transaction with the ack, so its effects happen exactly once. The name was resolved to a
 * function by the server; only the event travels as a bound value.
 *
 * It runs with the rights of the role that subscribed: SET LOCAL ROLE before the call, RESET ROLE
 * before the ack. A function can do the latter itself, so the daemon's own role should have no
 * rights but to be a member of those.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "cleanup.h"
#include "sink.h"

struct tl__sink {
    char *call;     /* SELECT "schema"."function"($1::jsonb) */
    char *set_role; /* SET LOCAL ROLE "name"; NULL: the daemon's own */
};

static struct tl__sink *close_target(struct tl__sink *sink)
{
    if (sink) {
        free(sink->call);
        free(sink->set_role);
    }
    free(sink);
    return NULL;
}

static struct tl__sink *open_target(const struct tl__sink_env *env,
                                    const struct tl__sink_target *what, const char **ret_problem)
{
    struct tl__buf set_role = TL_BUF_INIT;
    struct tl__sink *sink;

    (void)env;
    if (!what->call || !what->role) {
        *ret_problem = what->call ? "the daemon's role is not a member of the role that subscribed"
                                  : "there is no such function that takes one jsonb";
        return NULL;
    }
    *ret_problem = "out of memory";
    sink = calloc(1, sizeof *sink);
    if (!sink)
        return NULL;
    sink->call = strdup(what->call);
    if (*what->role) {
        tl__buf_addf(&set_role, "SET LOCAL ROLE %s", what->role); /* quoted by the server */
        sink->set_role = tl__buf_take(&set_role, NULL);
    }
    return sink->call && (sink->set_role || !*what->role) ? sink : close_target(sink);
}

/* TL008: the domain refuses the event. No such function or schema, or no right to call it: nothing
 * will succeed before somebody repairs that. */
static enum tl__sink_word word_of(const char *sqlstate)
{
    if (strcmp(sqlstate, "TL008") == 0)
        return TL__SINK_REJECT;
    if (strcmp(sqlstate, "42883") == 0 || strcmp(sqlstate, "3F000") == 0)
        return TL__SINK_FATAL;
    return TL__SINK_RETRY;
}

/* Take on the role, call, be oneself again. *ret_is_own: the failure is not the function's. */
static tl_status call(const struct tl__sink *sink, const struct tl__sink_delivery *d,
                      bool *ret_is_own)
{
    const char *const values[] = {d->body};
    char limit[64];
    tl_status status = TL_OK;

    *ret_is_own = true;
    if (d->timeout_us) { /* before the role: that may be forbidden to choose */
        snprintf(limit, sizeof limit, "SET LOCAL statement_timeout = '%lluus'",
                 (unsigned long long)d->timeout_us);
        status = tl_tx_exec(d->tx, limit, 0, NULL, NULL);
    }
    if (status == TL_OK && sink->set_role)
        status = tl_tx_exec(d->tx, sink->set_role, 0, NULL, NULL);
    if (status != TL_OK)
        return status;
    *ret_is_own = false;
    status = tl_tx_exec(d->tx, sink->call, 1, values, NULL);
    if (status == TL_OK && sink->set_role)
        status = tl_tx_exec(d->tx, "RESET ROLE", 0, NULL, NULL);
    if (status == TL_OK && d->timeout_us)
        status = tl_tx_exec(d->tx, "RESET statement_timeout", 0, NULL, NULL);
    return status;
}

static void deliver(struct tl__sink *sink, struct tl__sink_delivery *d)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf error = TL_BUF_INIT;
    struct tl__sink_result result = {.word = TL__SINK_DELIVERED};
    char summary[24];
    bool is_own;
    tl_status status = call(sink, d, &is_own);

    if (status != TL_OK) {
        const tl_error *e = tl_tx_error(d->tx);
        const char *sqlstate = tl_error_sqlstate(e);
        snprintf(summary, sizeof summary, "sqlstate %s", sqlstate);
        tl__buf_addf(&error, "%s (%s)", tl_error_message(e), sqlstate);
        result = (struct tl__sink_result){
            .word = is_own && status == TL_E_DENIED ? TL__SINK_FATAL : word_of(sqlstate),
            .error = error.data ? error.data : "the function failed",
            .summary = summary,
        };
    }
    d->done(d, &result);
}

static const char *const prefixes[] = {"sql:", NULL};

const struct tl__sink_kind tl__sink_sqlfunction = {
    .name = "sqlfunction",
    .prefixes = prefixes,
    .is_transactional = true,
    .open = open_target,
    .deliver = deliver,
    .close = close_target,
};
