/*
 * upcast.c: old events in their latest form: a chain of functions for each type, and what becomes of
 * events that are not known. It knows no database.
 */
#include "internal.h"

#include <string.h>

struct step {
    uint32_t from;
    tl_upcast_fn fn;
    void *userdata;
};

struct type {
    char *name;
    uint32_t known; /* latest schema version */
    struct step *steps;
    size_t count;
};

struct tl_upcasters {
    tl_unknown policy;
    struct type *types; /* by name */
    size_t count;
    struct tl_event event; /* the last one changed */
    char *data;            /* what its data points to */
    struct tl_error error;
};

tl_status tl_upcasters_new(tl_unknown policy, tl_upcasters **ret)
{
    struct tl_upcasters *u;

    if ((unsigned int)policy > TL_UNKNOWN_FAIL)
        return TL_E_INVALID;
    u = calloc(1, sizeof *u);
    if (u == NULL)
        return TL_E_NOMEM;
    u->policy = policy;
    tl__error_clear(&u->error);
    *ret = u;
    return TL_OK;
}

tl_upcasters *tl_upcasters_free(tl_upcasters *u)
{
    if (u == NULL)
        return NULL;
    for (size_t i = 0; i < u->count; i++) {
        free(u->types[i].name);
        free(u->types[i].steps);
    }
    free(u->types);
    free(u->data);
    free(u);
    return NULL;
}

const tl_error *tl_upcasters_error(const tl_upcasters *u)
{
    return &u->error;
}

/* Where a type is, or would stand. */
static size_t place_of(const struct tl_upcasters *u, const char *name, bool *is_there)
{
    size_t low = 0;
    size_t high = u->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(u->types[middle].name, name);

        if (order == 0) {
            *is_there = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *is_there = false;
    return low;
}

/* Find or make. */
static tl_status type_get(struct tl_upcasters *u, const char *name, struct type **ret)
{
    const char *why = "";
    struct type *types;
    bool is_there;
    char *copy;
    size_t at;

    if (tl_type_check(name, &why) != TL_OK)
        return tl__error_set(&u->error, TL_E_INVALID, NULL, "type %s", why);
    at = place_of(u, name, &is_there);
    if (is_there) {
        *ret = &u->types[at];
        return TL_OK;
    }
    copy = strdup(name);
    if (copy == NULL)
        return tl__error_nomem(&u->error);
    types = realloc(u->types, (u->count + 1) * sizeof *types);
    if (types == NULL) {
        free(copy);
        return tl__error_nomem(&u->error);
    }
    u->types = types;
    memmove(&types[at + 1], &types[at], (u->count - at) * sizeof *types);
    types[at] = (struct type){.name = copy, .known = 1};
    u->count++;
    *ret = &types[at];
    return TL_OK;
}

static const struct step *step_get(const struct type *t, uint32_t from)
{
    for (size_t i = 0; i < t->count; i++) {
        if (t->steps[i].from == from)
            return &t->steps[i];
    }
    return NULL;
}

static tl_status version_check(struct tl_upcasters *u, uint32_t version)
{
    if (version >= 1 && version < INT32_MAX)
        return TL_OK;
    return tl__error_set(&u->error, TL_E_INVALID, NULL, "schema version is not 1 to %d",
                         INT32_MAX - 1);
}

tl_status tl_upcasters_add(tl_upcasters *u, const char *type, uint32_t from, tl_upcast_fn fn,
                           void *userdata)
{
    struct step *steps;
    struct type *t;
    tl_status status;

    tl__error_clear(&u->error);
    if (fn == NULL)
        return tl__error_set(&u->error, TL_E_INVALID, NULL, "fn is NULL");
    if ((status = version_check(u, from)) != TL_OK || (status = type_get(u, type, &t)) != TL_OK)
        return status;
    if (step_get(t, from) != NULL)
        return tl__error_set(&u->error, TL_E_INVALID, NULL,
                             "type %s has an upcaster from schema version %u already", type, from);
    steps = realloc(t->steps, (t->count + 1) * sizeof *steps);
    if (steps == NULL)
        return tl__error_nomem(&u->error);
    t->steps = steps;
    steps[t->count++] = (struct step){.from = from, .fn = fn, .userdata = userdata};
    if (t->known < from + 1)
        t->known = from + 1;
    return TL_OK;
}

tl_status tl_upcasters_know(tl_upcasters *u, const char *type, uint32_t schema_version)
{
    struct type *t;
    tl_status status;

    tl__error_clear(&u->error);
    if ((status = version_check(u, schema_version)) != TL_OK ||
        (status = type_get(u, type, &t)) != TL_OK)
        return status;
    if (t->known < schema_version)
        t->known = schema_version;
    return TL_OK;
}

/* ---------------------------------------------------------------------------------- upcast -- */

static tl_status unknown(struct tl_upcasters *u, const tl_event *e, uint32_t version)
{
    switch (u->policy) {
    case TL_UNKNOWN_SKIP:
        return TL_NOTHING;
    case TL_UNKNOWN_FAIL:
        return tl__error_set(&u->error, TL_E_UNSUPPORTED, NULL,
                             "event type %s of schema version %u is not known here", e->type,
                             version);
    case TL_UNKNOWN_PASS:
        break;
    }
    return TL_OK;
}

static bool has_step_behind(const struct type *t, uint32_t from)
{
    for (size_t i = 0; i < t->count; i++) {
        if (t->steps[i].from > from)
            return true;
    }
    return false;
}

static tl_status step_run(struct tl_upcasters *u, const struct step *step)
{
    struct tl_event *e = &u->event;
    char *data = NULL;
    tl_status status = step->fn(e, e->data, e->data_len, &data, step->userdata);

    if (status != TL_OK) {
        free(data);
        return tl__error_set(&u->error, status, NULL,
                             "the upcaster of type %s from schema version %u failed", e->type,
                             step->from);
    }
    if (data != NULL) {
        free(u->data);
        u->data = data;
        e->data = data;
        e->data_len = strlen(data);
    }
    e->schema_version = (int32_t)step->from + 1;
    return TL_OK;
}

tl_status tl_upcast(tl_upcasters *u, const tl_event *e, const tl_event **ret)
{
    uint32_t version = (uint32_t)tl_event_schema_version(e);
    const struct step *step;
    const struct type *t;
    bool is_known;
    size_t at;

    tl__error_clear(&u->error);
    free(u->data);
    u->data = NULL;
    *ret = e;
    if (tl_event_is_redacted(e))
        return TL_OK;
    at = place_of(u, e->type, &is_known);
    if (!is_known || version > u->types[at].known)
        return unknown(u, e, version);
    t = &u->types[at];
    u->event = *e;
    while ((step = step_get(t, version)) != NULL) {
        tl_status status = step_run(u, step);

        if (status != TL_OK)
            return status;
        *ret = &u->event;
        version++;
    }
    if (has_step_behind(t, version))
        return tl__error_set(&u->error, TL_E_UNSUPPORTED, NULL,
                             "type %s has no upcaster from schema version %u", e->type, version);
    return TL_OK;
}
