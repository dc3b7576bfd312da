/*
 * webhooks.c: see webhooks.h.
 */
#include "webhooks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"

static const uint64_t PAUSE_US = 1000000; /* after a refusal */
enum { LAST_TRIES = 3 /* the first may be what a stop has cancelled */ };

void tl__webhooks_init(struct tl__webhooks *w, tl__query_fn query, void *userdata,
                       const char *refusal, struct tl__journal *journal)
{
    *w = (struct tl__webhooks){
        .query = query, .userdata = userdata, .refusal = refusal, .journal = journal};
    (void)snprintf(w->owner, sizeof w->owner, "serve.%ld.%llx", (long)getpid(),
                   (unsigned long long)tl__wall_us());
}

/* ------------------------------------------------------------------------------------- settings */

enum {
    COL_ID,
    COL_SECRETS,
    COL_HEADERS,
    COL_FORMAT,
    COL_LOG,
    COL_FAILURES_TO_OPEN,
    COL_FAILURES,
    COL_OPEN_US,
    COL_IS_PROBE,
};

static char *text_of(const PGresult *r, int row, int column)
{
    return PQgetisnull(r, row, column) ? NULL : PQgetvalue(r, row, column);
}

static int compare_ids(const void *a, const void *b)
{
    const struct tl__subscription *const *x = a, *const *y = b;

    return (*x)->id < (*y)->id ? -1 : (*x)->id > (*y)->id;
}

static void add(struct tl__subscription *s, const PGresult *r, int row)
{
    const char *log = PQgetvalue(r, row, COL_LOG);

    s->secrets = text_of(r, row, COL_SECRETS);
    s->headers = text_of(r, row, COL_HEADERS);
    s->format = text_of(r, row, COL_FORMAT);
    s->log = strcmp(log, "none") == 0       ? TL__LOG_NONE
             : strcmp(log, "failures") == 0 ? TL__LOG_FAILURES
                                            : TL__LOG_ALL;
    s->breaker_failures = (uint32_t)strtoul(PQgetvalue(r, row, COL_FAILURES_TO_OPEN), NULL, 10);
    s->failures = (uint32_t)strtoul(PQgetvalue(r, row, COL_FAILURES), NULL, 10);
    s->is_open = !PQgetisnull(r, row, COL_OPEN_US);
    s->is_probe = *PQgetvalue(r, row, COL_IS_PROBE) == 't';
}

static bool has_webhook(const struct tl__subscription_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (strncmp(list->items[i].target, "http", 4) == 0)
            return true;
    return false;
}

/* A function that may not be called, or whose tables may not be read, is a permission error that
 * would be logged every second: ask first. */
static bool may_read(struct tl__webhooks *w, bool *ret_failed)
{
    PGresult *r =
        w->query(w->userdata, "look_failed",
                 "SELECT pg_catalog.has_column_privilege('@schema@.webhook_secrets', 'secret', "
                 "'SELECT') AND pg_catalog.has_function_privilege('@schema@.webhook_list(text)', "
                 "'EXECUTE')",
                 0, NULL);
    bool may = r && *PQgetvalue(r, 0, 0) == 't';

    *ret_failed = !r;
    PQclear(r);
    if (r && !may && !w->has_complained)
        tl__log_event(TL_LOG_WARN, "webhooks_denied", "message",
                      "this role may not read the keys of webhooks: see grant_serve()", NULL);
    w->has_complained = r && !may;
    return may;
}

PGresult *tl__webhooks_load(struct tl__webhooks *w, struct tl__subscription_list *list)
{
    const char *const values[] = {w->owner};
    bool has_failed = false;

    list->journal_seq = tl__journal_seq(w->journal);
    if (!has_webhook(list))
        return PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    if (!may_read(w, &has_failed))
        return has_failed ? NULL : PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    PGresult *r = w->query(w->userdata, "look_failed",
                           "SELECT subscription_id, secrets, headers, format, log, "
                           "breaker_failures, failures, open_us, is_probe "
                           "FROM @schema@.webhook_list($1)",
                           1, values);
    struct tl__subscription **by_id = r ? calloc(list->count + 1, sizeof(void *)) : NULL;
    if (!by_id) {
        PQclear(r);
        return NULL;
    }
    for (size_t i = 0; i < list->count; i++)
        by_id[i] = &list->items[i];
    qsort(by_id, list->count, sizeof(void *), compare_ids);
    for (int row = 0; row < PQntuples(r); row++) {
        struct tl__subscription key = {.id = strtoll(PQgetvalue(r, row, COL_ID), NULL, 10)};
        const struct tl__subscription *wanted = &key;
        struct tl__subscription **found =
            bsearch(&wanted, by_id, list->count, sizeof(void *), compare_ids);
        if (found)
            add(*found, r, row);
    }
    free(by_id);
    return r;
}

/* -------------------------------------------------------------------------------------- journal */

/* What is wrong with a value, or breaks a constraint or a limit with it, does so for ever. All else may pass:
 * a lock, a time-out, a right that is missing, a full disk, a schema that is being changed. */
static bool is_of_values(const char *sqlstate)
{
    static const char classes[][3] = {"21", "22", "23", "54"};

    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
        if (strncmp(sqlstate, classes[i], 2) == 0)
            return true;
    return false;
}

static void log_dropped(uint64_t count)
{
    tl__log_event(TL_LOG_WARN, "attempts_dropped", "count", TL_NUMBER(count), NULL);
}

bool tl__webhooks_flush(struct tl__webhooks *w, bool is_last)
{
    uint64_t upto, dropped = tl__journal_take_dropped(w->journal);
    int tries = is_last ? LAST_TRIES : 1, most = TL__JOURNAL_MOST, count;
    char *arrays[TL__JOURNAL_FIELDS];

    if (dropped > 0)
        log_dropped(dropped);
    if (!is_last && w->refused_at_us && tl__clock_us() < w->refused_at_us + PAUSE_US)
        return true;
    w->refused_at_us = 0;
    while (tries > 0 && (count = tl__journal_peek(w->journal, most, arrays, &upto)) > 0) {
        PGresult *r = w->query(w->userdata, "attempts_failed",
                               "SELECT @schema@.record_attempts($1, $2, $3, $4, $5, $6, $7, $8, "
                               "$9, $10, $11, $12, $13, $14)",
                               TL__JOURNAL_FIELDS, (const char *const *)arrays);
        bool is_written = r != NULL;

        for (int i = 0; i < TL__JOURNAL_FIELDS; i++)
            free(arrays[i]);
        PQclear(r);
        if (is_written) {
            tl__journal_forget(w->journal, upto);
            most = TL__JOURNAL_MOST;
        } else if (!*w->refusal) {
            return false;
        } else if (!is_of_values(w->refusal)) {
            w->refused_at_us = tl__clock_us();
            tries--;
        } else if (count > 1) {
            most = count / 2; /* until the one that is to blame is alone */
        } else {
            log_dropped(1);
            tl__journal_forget(w->journal, upto);
            most = TL__JOURNAL_MOST;
        }
    }
    return true;
}

/* -------------------------------------------------------------------------------------- resends */

struct tl__resends *tl__webhooks_resends(struct tl__webhooks *w)
{
    const char *const values[] = {w->owner};

    if (w->has_complained)
        return NULL;
    PGresult *r = w->query(w->userdata, "resends_failed",
                           "SELECT resend_id, subscription_id, body, id, type, source, stream, "
                           "version, key, tenant_id, data, created_us, expires_us, \"position\" "
                           "FROM @schema@.take_resends($1)",
                           1, values);
    if (!r || PQntuples(r) == 0) {
        PQclear(r);
        return NULL;
    }
    return tl__resends_new(r);
}
