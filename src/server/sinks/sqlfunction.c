/*
 * sqlfunction.c: targets "sql:schema.function": the function gets the event as one jsonb argument,
 * in one transaction with the ack, so its effects happen exactly once. The name was resolved to a
 * function by the server; only the event travels as a bound value.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "cleanup.h"
#include "sink.h"

struct tl__sink {
    char *call; /* SELECT "schema"."function"($1::jsonb) */
};

static struct tl__sink *open_target(const struct tl__sink_env *env,
                                    const struct tl__sink_target *what, const char **ret_problem)
{
    struct tl__sink *sink = calloc(1, sizeof *sink);

    (void)env;
    *ret_problem = "out of memory";
    if (sink && !what->call)
        *ret_problem = "there is no such function that takes one jsonb";
    if (sink && what->call && (sink->call = strdup(what->call)))
        return sink;
    free(sink);
    return NULL;
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

static void deliver(struct tl__sink *sink, struct tl__sink_delivery *d)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf error = TL_BUF_INIT;
    struct tl__sink_result result = {.word = TL__SINK_DELIVERED};
    const char *const values[] = {d->body};
    char summary[24];
    tl_status status = tl_tx_exec(d->tx, sink->call, 1, values, NULL);

    if (status != TL_OK) {
        const tl_error *e = tl_tx_error(d->tx);
        const char *sqlstate = tl_error_sqlstate(e);
        snprintf(summary, sizeof summary, "sqlstate %s", sqlstate);
        tl__buf_addf(&error, "%s (%s)", tl_error_message(e), sqlstate);
        result = (struct tl__sink_result){
            .word = word_of(sqlstate),
            .error = error.data ? error.data : "the function failed",
            .summary = summary,
        };
    }
    d->done(d, &result);
}

static struct tl__sink *close_target(struct tl__sink *sink)
{
    if (sink)
        free(sink->call);
    free(sink);
    return NULL;
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
