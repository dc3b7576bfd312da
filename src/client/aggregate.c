/*
 * aggregate.c: an aggregate in memory: its state, the events that were raised on it and not saved. It
 * asks no database.
 */
#include "repository.h"

#include "clock.h"
#include "str.h"

#include <string.h>
#include <sys/random.h>

static void state_free(const struct tl_repository *r, void *state)
{
    if (state == NULL)
        return;
    if (r->type.free != NULL)
        r->type.free(state, r->type.userdata);
    else
        free(state);
}

tl_status tl__aggregate_restart(struct tl_aggregate *a)
{
    const struct tl_repository *r = a->repository;

    state_free(r, a->state);
    a->version = 0;
    a->snapshot_version = 0;
    a->state = r->type.create(r->type.userdata);
    return a->state != NULL ? TL_OK : tl__error_nomem(&r->c->error);
}

tl_status tl__aggregate_new(struct tl_repository *r, const char *id, struct tl_aggregate **ret)
{
    size_t prefix = strlen(r->name) + 1;
    struct tl_aggregate *a;
    tl_status status;

    if (id == NULL || id[0] == '\0')
        return tl__error_set(&r->c->error, TL_E_INVALID, NULL, "id is empty");
    a = calloc(1, sizeof *a);
    if (a == NULL)
        return tl__error_nomem(&r->c->error);
    a->repository = r;
    a->stream = malloc(prefix + strlen(id) + 1);
    if (a->stream == NULL) {
        status = tl__error_nomem(&r->c->error);
    } else {
        memcpy(a->stream, r->name, prefix - 1);
        a->stream[prefix - 1] = '-';
        memcpy(a->stream + prefix, id, strlen(id) + 1);
        a->id = a->stream + prefix;
        status = tl__stream_check(&r->c->error, a->stream);
    }
    if (status == TL_OK)
        status = tl__aggregate_restart(a);
    if (status != TL_OK) {
        (void)tl_aggregate_free(a);
        return status;
    }
    *ret = a;
    return TL_OK;
}

tl_aggregate *tl_aggregate_free(tl_aggregate *a)
{
    if (a == NULL)
        return NULL;
    tl__aggregate_forget_pending(a);
    free(a->pending);
    free(a->blocks);
    state_free(a->repository, a->state);
    free(a->stream);
    free(a);
    return NULL;
}

/* ----------------------------------------------------------------------------------- apply -- */

tl_status tl__aggregate_apply(struct tl_aggregate *a, const struct tl_event *e)
{
    const struct tl_repository *r = a->repository;
    tl_status status = r->type.apply(a->state, e, r->type.userdata);

    if (status < 0)
        return tl__error_set(&r->c->error, status, NULL,
                             "event %s, version %lld of stream \"%s\", cannot be applied", e->type,
                             (long long)e->version, a->stream);
    if (status > 0 && r->type.unknown == TL_UNKNOWN_FAIL)
        return tl__error_set(&r->c->error, TL_E_UNSUPPORTED, NULL,
                             "event type %s, version %lld of stream \"%s\", is not known here",
                             e->type, (long long)e->version, a->stream);
    return status;
}

/* An event that was raised as apply sees it. */
static struct tl_event raised(const struct tl_aggregate *a, const tl_new_event *event,
                              int64_t version)
{
    struct tl_event e = {
        .version = version,
        .type = event->type,
        .source = event->source,
        .stream = a->stream,
        .key = event->key != NULL ? event->key : a->stream,
        .tenant_id = a->repository->tenant_id,
        .data = event->data,
        .data_len = event->data_len,
        .metadata = event->metadata,
        .metadata_len = event->metadata != NULL ? strlen(event->metadata) : 0,
        .expires_at_us = event->expires_at_us,
    };

    tl__str_copy(e.id, sizeof e.id, event->id);
    return e;
}

/* Events that were just raised must be known: what they would do would be lost. */
static tl_status apply_raised(struct tl_aggregate *to, const tl_new_event *event, int64_t version)
{
    struct tl_event e = raised(to, event, version);
    tl_status status = tl__aggregate_apply(to, &e);

    if (status > 0)
        return tl__error_set(&to->repository->c->error, TL_E_INVALID, NULL,
                             "event type %s is not known to apply", event->type);
    return status;
}

tl_status tl__aggregate_apply_pending(struct tl_aggregate *to, const struct tl_aggregate *from)
{
    for (size_t i = 0; i < from->pending_count; i++) {
        tl_status status = apply_raised(to, &from->pending[i], to->version + 1 + (int64_t)i);

        if (status != TL_OK)
            return status;
    }
    return TL_OK;
}

/* --------------------------------------------------------------------------------- pending -- */

void tl__aggregate_forget_pending(struct tl_aggregate *a)
{
    for (size_t i = 0; i < a->pending_count; i++)
        free(a->blocks[i]);
    a->pending_count = 0;
}

/* A uuid ordered by time (version 7), so that a save can be repeated. */
static bool make_id(char ret[TL_UUID_TEXT_SIZE])
{
    uint64_t now_ms = (uint64_t)tl__wall_us() / 1000;
    uint8_t bytes[16];

    if (getrandom(bytes + 6, 10, 0) != 10)
        return false;
    for (int i = 0; i < 6; i++)
        bytes[i] = (uint8_t)(now_ms >> (40 - 8 * i));
    bytes[6] = (uint8_t)(0x70 | (bytes[6] & 0x0f));
    bytes[8] = (uint8_t)(0x80 | (bytes[8] & 0x3f));
    tl__uuid_format(bytes, ret);
    return true;
}

static bool pending_reserve(struct tl_aggregate *a)
{
    size_t cap = a->pending_cap == 0 ? 4 : a->pending_cap * 2;
    tl_new_event *pending;
    char **blocks;

    if (a->pending_count < a->pending_cap)
        return true;
    pending = realloc(a->pending, cap * sizeof *pending);
    if (pending == NULL)
        return false;
    a->pending = pending;
    blocks = realloc(a->blocks, cap * sizeof *blocks);
    if (blocks == NULL)
        return false;
    a->blocks = blocks;
    a->pending_cap = cap;
    return true;
}

/* Copy a text behind *at and move that on; NULL stays NULL. */
static const char *put_text(char **at, const char *text, size_t len)
{
    char *copy = *at;

    if (text == NULL)
        return NULL;
    memcpy(copy, text, len);
    copy[len] = '\0';
    *at += len + 1;
    return copy;
}

static size_t length(const char *text)
{
    return text != NULL ? strlen(text) : 0;
}

/* A copy of an event in one block of memory; it has an id. */
static char *copy_event(const tl_new_event *from, tl_new_event *ret)
{
    char id[TL_UUID_TEXT_SIZE];
    char *block, *at;

    if (from->id == NULL && !make_id(id))
        return NULL;
    block = malloc(length(from->type) + from->data_len + length(from->key) + length(from->source) +
                   length(from->metadata) + TL_UUID_TEXT_SIZE + 6);
    if (block == NULL)
        return NULL;
    at = block;
    *ret = *from;
    ret->type = put_text(&at, from->type, length(from->type));
    ret->data = put_text(&at, from->data, from->data_len);
    ret->id = put_text(&at, from->id != NULL ? from->id : id, TL_UUID_TEXT_SIZE - 1);
    ret->key = put_text(&at, from->key, length(from->key));
    ret->source = put_text(&at, from->source, length(from->source));
    ret->metadata = put_text(&at, from->metadata, length(from->metadata));
    ret->tenant_id = NULL; /* the repository's */
    return block;
}

tl_status tl_aggregate_raise(tl_aggregate *a, const tl_new_event *from)
{
    struct tl_repository *r = a->repository;
    struct tl_error *e = &r->c->error;
    TL_CLEANUP(tl__events_done)
    struct tl__events checked = {.count = 0};
    tl_new_event event;
    char *block;
    tl_status status;

    tl__error_clear(e);
    if (from == NULL)
        return tl__error_set(e, TL_E_INVALID, NULL, "event is NULL");
    status = tl__events_load(e, from, 1, r->tenant_id, &checked);
    if (status != TL_OK)
        return status;
    if (checked.one.event.ttl_us != 0)
        return tl__error_set(e, TL_E_INVALID, NULL,
                             "ttl_us is not for raised events, which have an id: use "
                             "expires_at_us");
    if (a->pending_count == TL_MAX_APPEND)
        return tl__error_set(e, TL_E_LIMIT, NULL, "%d events are pending: save them",
                             TL_MAX_APPEND);
    if (!pending_reserve(a))
        return tl__error_nomem(e);
    block = copy_event(&checked.one.event, &event);
    if (block == NULL)
        return tl__error_nomem(e);
    status = apply_raised(a, &event, a->version + 1 + (int64_t)a->pending_count);
    if (status != TL_OK) {
        free(block);
        return status;
    }
    a->pending[a->pending_count] = event;
    a->blocks[a->pending_count++] = block;
    return TL_OK;
}

tl_status tl_aggregate_reject(tl_aggregate *a, const char *why)
{
    return tl__error_set(&a->repository->c->error, TL_E_REJECTED, NULL, "%s",
                         why != NULL ? why : "rejected");
}

/* ------------------------------------------------------------------------------- accessors -- */

const char *tl_aggregate_id(const tl_aggregate *a)
{
    return a->id;
}

const char *tl_aggregate_stream(const tl_aggregate *a)
{
    return a->stream;
}

int64_t tl_aggregate_version(const tl_aggregate *a)
{
    return a->version;
}

void *tl_aggregate_state(const tl_aggregate *a)
{
    return a->state;
}

size_t tl_aggregate_pending(const tl_aggregate *a)
{
    return a->pending_count;
}
