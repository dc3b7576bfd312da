/*
 * repository_snapshot.c: when a repository takes snapshots: on demand, with a save once enough events are
 * behind the last one, or then but later. A snapshot is worth time only, so one that falls due and
 * fails is counted and not reported.
 */
#include "repository.h"

#include <string.h>

static const tl_snapshot_options *options(const struct tl_repository *r, tl_snapshot_options *opts)
{
    *opts = (tl_snapshot_options){.size = sizeof *opts,
                                  .topic = r->topic,
                                  .tenant_id = r->tenant_id,
                                  .schema_version = r->type.schema_version};
    return opts;
}

/* The state as JSON text, from malloc(). */
static tl_status state_json(const struct tl_aggregate *a, char **ret)
{
    const struct tl_repository *r = a->repository;
    char *json = NULL;
    tl_status status = r->type.snapshot(a->state, &json, r->type.userdata);

    if (status == TL_OK && json != NULL) {
        *ret = json;
        return TL_OK;
    }
    free(json);
    return tl__error_set(&r->c->error, status < 0 ? status : TL_E_INVALID, NULL,
                         "the state of stream \"%s\" gave no snapshot", a->stream);
}

static tl_status save_now(struct tl_aggregate *a)
{
    struct tl_repository *r = a->repository;
    tl_snapshot_options opts;
    char *json = NULL;
    tl_status status = state_json(a, &json);

    if (status == TL_OK)
        status = tl_snapshot_save(r->c, a->stream, a->version, json, 0, options(r, &opts));
    free(json);
    if (status == TL_OK)
        r->stats.snapshots_saved++;
    if (status >= 0)
        a->snapshot_version = a->version;
    return status;
}

tl_status tl_repository_snapshot(tl_repository *r, tl_aggregate *a)
{
    struct tl_error *e = &r->c->error;

    tl__error_clear(e);
    if (a == NULL || a->repository != r)
        return tl__error_set(e, TL_E_INVALID, NULL, "aggregate is of another repository");
    if (r->type.snapshot == NULL)
        return tl__error_set(e, TL_E_UNSUPPORTED, NULL, "aggregates of type %s have no snapshots",
                             r->name);
    if (a->pending_count > 0)
        return tl__error_set(e, TL_E_INVALID, NULL, "%zu events are not saved", a->pending_count);
    return save_now(a);
}

/* ----------------------------------------------------------------------------------- later -- */

static void due_remove(struct tl_repository *r, size_t i)
{
    free(r->due[i].stream);
    free(r->due[i].json);
    r->due_count--;
    memmove(&r->due[i], &r->due[i + 1], (r->due_count - i) * sizeof r->due[0]);
}

void tl__due_done(struct tl_repository *r)
{
    while (r->due_count > 0)
        due_remove(r, r->due_count - 1);
}

/* Remember the state of now; the place of an older one of the same stream is free. */
static tl_status due_add(struct tl_aggregate *a)
{
    struct tl_repository *r = a->repository;
    struct tl__due due = {.version = a->version, .stream = strdup(a->stream)};

    if (due.stream == NULL || state_json(a, &due.json) != TL_OK) {
        free(due.stream);
        return TL_E_NOMEM;
    }
    for (size_t i = 0; i < r->due_count; i++) {
        if (strcmp(r->due[i].stream, a->stream) == 0) {
            due_remove(r, i);
            break;
        }
    }
    if (r->due_count == TL__MAX_DUE) {
        due_remove(r, 0);
        r->stats.snapshots_dropped++;
    }
    r->due[r->due_count++] = due;
    a->snapshot_version = a->version;
    return TL_OK;
}

void tl__snapshot_if_due(struct tl_aggregate *a)
{
    struct tl_repository *r = a->repository;
    struct tl_error kept = r->c->error;

    if (r->snapshot_every == 0 || r->type.snapshot == NULL ||
        a->version - a->snapshot_version < r->snapshot_every)
        return;
    if ((r->snapshot_later ? due_add(a) : save_now(a)) < 0)
        r->stats.snapshots_failed++;
    r->c->error = kept;
}

tl_status tl_repository_process(tl_repository *r)
{
    tl_snapshot_options opts;
    tl_status status;

    tl__error_clear(&r->c->error);
    if (r->due_count == 0)
        return TL_NOTHING;
    status = tl_snapshot_save(r->c, r->due[0].stream, r->due[0].version, r->due[0].json, 0,
                              options(r, &opts));
    due_remove(r, 0);
    if (status == TL_OK)
        r->stats.snapshots_saved++;
    else if (status < 0)
        r->stats.snapshots_failed++;
    return status < 0 ? status : TL_OK;
}
