/* repository.c: aggregates by id: load, save at the loaded version, decide again after a conflict. */
#include "repository.h"

#include "str.h"

#include <string.h>

#define MAX_CATEGORY_BYTES 200
#define DEFAULT_ATTEMPTS 5
#define MAX_ATTEMPTS 100

/* ------------------------------------------------------------------------------- new, free -- */

static tl_status type_load(tl_aggregate_type *type, struct tl_error *e,
                           const tl_aggregate_type *from)
{
    tl_status status = tl__options_load(e, "tl_aggregate_type", type, sizeof *type, from);
    const char *name = type->name;
    size_t len;

    if (status != TL_OK)
        return status;
    len = name != NULL ? strlen(name) : 0;
    if (len < 1 || len > MAX_CATEGORY_BYTES || strchr(name, '-') != NULL ||
        tl__stream_check(e, name) != TL_OK)
        return tl__error_set(e, TL_E_INVALID, NULL,
                             "name of the type is not 1 to %d bytes without '-'",
                             MAX_CATEGORY_BYTES);
    if (type->create == NULL || type->apply == NULL)
        return tl__error_set(e, TL_E_INVALID, NULL, "type %s has no create or no apply", name);
    if ((type->snapshot == NULL) != (type->restore == NULL))
        return tl__error_set(e, TL_E_INVALID, NULL,
                             "type %s has one of snapshot and restore without the other", name);
    if (type->schema_version > INT32_MAX)
        return tl__error_set(e, TL_E_INVALID, NULL, "schema_version is too large");
    if ((unsigned int)type->unknown > TL_UNKNOWN_FAIL)
        return tl__error_set(e, TL_E_INVALID, NULL, "unknown is not a tl_unknown");
    return TL_OK;
}

tl_status tl_repository_new(tl_client *c, const tl_aggregate_type *from_type,
                            const tl_repository_options *from, tl_repository **ret)
{
    struct tl_error *e = &c->error;
    tl_repository_options opts;
    tl_aggregate_type type;
    struct tl_repository *r;
    const char *topic;
    tl_status status;

    tl__error_clear(e);
    if ((status = type_load(&type, e, from_type)) != TL_OK ||
        (status = tl__options_load(e, "tl_repository_new", &opts, sizeof opts, from)) != TL_OK ||
        (status = tl__store_topic_load(e, opts.topic, &topic)) != TL_OK)
        return status;
    if (type.snapshot == NULL && (opts.snapshot_every != 0 || opts.snapshot_later))
        return tl__error_set(e, TL_E_INVALID, NULL, "type %s has no snapshots", type.name);
    r = calloc(1, sizeof *r);
    if (r == NULL)
        return tl__error_nomem(e);
    r->c = c;
    r->type = type;
    r->upcasters = opts.upcasters;
    r->upcast = opts.upcast;
    r->snapshot_every = opts.snapshot_every;
    r->snapshot_later = opts.snapshot_later;
    tl__str_copy(r->topic, sizeof r->topic, topic);
    r->name = strdup(type.name);
    r->type.name = r->name;
    if (opts.tenant_id != NULL)
        r->tenant_id = strdup(opts.tenant_id);
    if (r->name == NULL || (opts.tenant_id != NULL && r->tenant_id == NULL)) {
        (void)tl_repository_free(r);
        return tl__error_nomem(e);
    }
    *ret = r;
    return TL_OK;
}

tl_repository *tl_repository_free(tl_repository *r)
{
    if (r == NULL)
        return NULL;
    tl__due_done(r);
    free(r->name);
    free(r->tenant_id);
    free(r);
    return NULL;
}

void tl_repository_get_stats(const tl_repository *r, tl_repository_stats *ret)
{
    *ret = r->stats;
}

/* ------------------------------------------------------------------------------------ load -- */

static tl_status load(tl_repository *r, const char *id, bool is_made, tl_aggregate **ret)
{
    struct tl_aggregate *a;
    tl_status status;

    tl__error_clear(&r->c->error);
    status = tl__aggregate_new(r, id, &a);
    if (status != TL_OK)
        return status;
    status = tl__aggregate_load(a);
    if (status == TL_NOTHING)
        status = is_made ? TL_OK
                         : tl__error_set(&r->c->error, TL_E_NOTFOUND, NULL,
                                         "stream \"%s\" has no events", a->stream);
    if (status != TL_OK) {
        (void)tl_aggregate_free(a);
        return status;
    }
    *ret = a;
    return TL_OK;
}

tl_status tl_repository_load(tl_repository *r, const char *id, tl_aggregate **ret)
{
    return load(r, id, false, ret);
}

tl_status tl_repository_load_or_create(tl_repository *r, const char *id, tl_aggregate **ret)
{
    return load(r, id, true, ret);
}

tl_status tl_repository_create(tl_repository *r, const char *id, tl_aggregate **ret)
{
    tl__error_clear(&r->c->error);
    return tl__aggregate_new(r, id, ret);
}

/* The stream of an id; free it. */
static tl_status stream_of(tl_repository *r, const char *id, char **ret)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf name = TL_BUF_INIT;

    if (id == NULL || id[0] == '\0')
        return tl__error_set(&r->c->error, TL_E_INVALID, NULL, "id is empty");
    tl__buf_add_str(&name, r->name);
    tl__buf_add_char(&name, '-');
    tl__buf_add_str(&name, id);
    *ret = tl__buf_take(&name, NULL);
    return *ret != NULL ? TL_OK : tl__error_nomem(&r->c->error);
}

tl_status tl_repository_exists(tl_repository *r, const char *id, bool *ret)
{
    TL_CLEANUP(tl__freep)
    char *stream = NULL;
    tl_status status = stream_of(r, id, &stream);

    if (status != TL_OK)
        return status;
    return tl_stream_exists(r->c, stream,
                            TL_STREAM_OPTIONS(.topic = r->topic, .tenant_id = r->tenant_id), ret);
}

tl_status tl_repository_version(tl_repository *r, const char *id, int64_t *ret)
{
    TL_CLEANUP(tl__freep)
    char *stream = NULL;
    tl_status status = stream_of(r, id, &stream);

    if (status != TL_OK)
        return status;
    return tl_stream_version(r->c, stream,
                             TL_STREAM_OPTIONS(.topic = r->topic, .tenant_id = r->tenant_id), ret);
}

/* ------------------------------------------------------------------------------------ save -- */

tl_status tl_repository_save(tl_repository *r, tl_aggregate *a)
{
    TL_CLEANUP(tl__freep)
    tl_appended *rows = NULL;
    size_t n;
    tl_status status;

    tl__error_clear(&r->c->error);
    if (a == NULL || a->repository != r)
        return tl__error_set(&r->c->error, TL_E_INVALID, NULL,
                             "aggregate is of another repository");
    n = a->pending_count;
    if (n == 0)
        return TL_NOTHING;
    rows = calloc(n, sizeof *rows);
    if (rows == NULL)
        return tl__error_nomem(&r->c->error);
    status = tl_append(r->c, a->stream, a->version, a->pending, n,
                       TL_APPEND_OPTIONS(.topic = r->topic, .tenant_id = r->tenant_id), rows);
    if (status == TL_E_CONFLICT)
        r->stats.conflicts++;
    if (status != TL_OK)
        return status;
    r->stats.saves++;
    a->version = rows[n - 1].version;
    tl__aggregate_forget_pending(a);
    tl__snapshot_if_due(a);
    return TL_OK;
}

tl_status tl_repository_reload(tl_repository *r, tl_aggregate *a)
{
    struct tl_aggregate *now;
    tl_status status;

    tl__error_clear(&r->c->error);
    if (a == NULL || a->repository != r)
        return tl__error_set(&r->c->error, TL_E_INVALID, NULL,
                             "aggregate is of another repository");
    status = load(r, a->id, true, &now);
    if (status != TL_OK)
        return status;
    status = tl__aggregate_apply_pending(now, a);
    if (status == TL_OK) {
        void *state = a->state;

        a->state = now->state;
        now->state = state;
        a->version = now->version;
        a->snapshot_version = now->snapshot_version;
    }
    (void)tl_aggregate_free(now);
    return status;
}

/* ---------------------------------------------------------------------------------- update -- */

/* Save, and again while it is not known what became of it: its events have ids. *left counts down the
 * saves. */
static tl_status save_through(tl_repository *r, tl_aggregate *a, uint32_t *left)
{
    uint64_t pause_us = r->c->settings.reconnect_base_us;

    for (;;) {
        tl_status status = tl_repository_save(r, a);

        (*left)--;
        if ((status != TL_E_CONNECTION && !r->c->error.is_outcome_unknown) ||
            status == TL_E_CANCELLED || *left == 0)
            return status;
        status = tl__client_pause(r->c, pause_us);
        if (status != TL_OK)
            return status;
        pause_us = pause_us * 2 < r->c->settings.reconnect_cap_us ? pause_us * 2
                                                                  : r->c->settings.reconnect_cap_us;
    }
}

/* Worth another decision: the stream has moved, or the server ended the transaction for a reason of its
 * own. Not a tombstone, which stays. */
static bool is_worth_it(const struct tl_error *e)
{
    return (strcmp(e->sqlstate, "TL001") == 0 && strstr(e->detail, "\"tombstone\"") == NULL) ||
           strcmp(e->sqlstate, "40001") == 0 || strcmp(e->sqlstate, "40P01") == 0;
}

tl_status tl_repository_update(tl_repository *r, const char *id, tl_command_fn fn, void *userdata,
                               const tl_update_options *from, int64_t *ret_version)
{
    struct tl_error *e = &r->c->error;
    tl_update_options opts;
    uint32_t left;
    tl_status status;

    tl__error_clear(e);
    status = tl__options_load(e, "tl_repository_update", &opts, sizeof opts, from);
    if (status != TL_OK)
        return status;
    if (fn == NULL || opts.attempts > MAX_ATTEMPTS)
        return tl__error_set(e, TL_E_INVALID, NULL, "fn is NULL or attempts are not 1 to %d",
                             MAX_ATTEMPTS);
    left = opts.attempts != 0 ? opts.attempts : DEFAULT_ATTEMPTS;
    for (;;) {
        struct tl_aggregate *a;
        bool is_decided;

        status = load(r, id, opts.create, &a);
        if (status != TL_OK)
            return status;
        status = fn(a, userdata);
        is_decided = status == TL_OK;
        if (is_decided)
            status = save_through(r, a, &left);
        else if (status < 0 && e->status != status)
            tl__error_set(e, status, NULL, "the command failed");
        if (status >= 0 && ret_version != NULL)
            *ret_version = a->version;
        (void)tl_aggregate_free(a);
        if (!is_decided || status >= 0 || left == 0 || !is_worth_it(e))
            return status;
    }
}
