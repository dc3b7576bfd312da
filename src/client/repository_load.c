/*
 * repository_load.c: an aggregate from the store: its snapshot and the events behind it in one call, the
 * rest of a long stream by a reader. What is wrong with a snapshot costs a replay, never the load.
 */
#include "repository.h"

#include <string.h>

#define FIRST_PAGE_EVENTS 500

static const char load_sql[] =
    "SELECT " TL__EVENT_LIST ", snapshot_version, state::text FROM @extschema@.load_stream("
    "stream => $1, schema_version => $2, max_events => $3, topic => $4, tenant_id => $5, "
    "upcast => $6)";
enum { SNAPSHOT_VERSION = TL__EVENT_COLUMNS, STATE };

/* TL_NOTHING: the event is not the one behind the last. */
static tl_status apply_stored(struct tl_aggregate *a, const struct tl_event *e)
{
    struct tl_repository *r = a->repository;
    const struct tl_event *latest = e;
    tl_status status = TL_OK;

    if (e->stream == NULL || strcmp(e->stream, a->stream) != 0)
        return tl__error_set(&r->c->error, TL_E_SERVER, NULL,
                             "stream \"%s\" gave an event of another one", a->stream);
    /* the first events of a stream may have been deleted or trimmed */
    if (a->version != 0 && e->version != a->version + 1)
        return TL_NOTHING;
    if (r->upcasters != NULL) {
        status = tl_upcast(r->upcasters, e, &latest);
        if (status < 0)
            r->c->error = *tl_upcasters_error(r->upcasters);
    }
    if (status == TL_OK) {
        status = tl__aggregate_apply(a, latest);
        r->stats.events_applied++;
    }
    if (status < 0)
        return status;
    a->version = e->version;
    return TL_OK;
}

static tl_status out_of_order(const struct tl_aggregate *a)
{
    return tl__error_set(&a->repository->c->error, TL_E_SERVER, NULL,
                         "versions of stream \"%s\" do not follow each other behind %lld",
                         a->stream, (long long)a->version);
}

/* Events behind those that were applied, to the end of the stream. */
static tl_status load_rest(struct tl_aggregate *a)
{
    struct tl_repository *r = a->repository;
    tl_reader *reader = NULL;
    const tl_event *e;
    tl_status status;

    status = tl_reader_open_stream(r->c, a->stream,
                                   TL_READER_OPTIONS(.topic = r->topic, .tenant_id = r->tenant_id,
                                                     .after = a->version, .upcast = r->upcast),
                                   &reader);
    while (status == TL_OK) {
        status = tl_reader_next(reader, &e);
        if (status != TL_OK)
            break;
        status = apply_stored(a, e);
        if (status == TL_NOTHING)
            status = out_of_order(a);
    }
    reader = tl_reader_close(reader);
    return status == TL_NOTHING ? TL_OK : status;
}

/* Begin anew, without the snapshot. */
static tl_status replay(struct tl_aggregate *a)
{
    tl_status status;

    a->repository->stats.snapshot_refused++;
    status = tl__aggregate_restart(a);
    if (status == TL_OK)
        status = load_rest(a);
    return status == TL_OK && a->version == 0 ? TL_NOTHING : status;
}

static tl_status ask(struct tl_aggregate *a, PGresult **ret)
{
    struct tl_repository *r = a->repository;
    struct tl__params params = TL_PARAMS_INIT;
    tl_status status = tl__call_begin(r->c);

    if (status != TL_OK)
        return status;
    tl__param_text(&params, a->stream);
    tl__param_i32(&params, r->type.schema_version != 0 ? (int32_t)r->type.schema_version : 1);
    tl__param_i32(&params, FIRST_PAGE_EVENTS);
    tl__param_text(&params, r->topic);
    tl__param_text(&params, r->tenant_id);
    tl__param_bool(&params, r->upcast);
    return tl__call(r->c, TL__READS, NULL, load_sql, &params, ret);
}

/* The first row may be the snapshot. TL_NOTHING: there is one and it is of no use. */
static tl_status take_snapshot(struct tl_aggregate *a, const PGresult *res)
{
    const struct tl_repository *r = a->repository;

    if (r->type.restore(a->state, PQgetvalue(res, 0, STATE), (size_t)PQgetlength(res, 0, STATE),
                        r->type.userdata) != TL_OK)
        return TL_NOTHING;
    a->version = tl__cell_i64(res, 0, SNAPSHOT_VERSION);
    a->snapshot_version = a->version;
    return TL_OK;
}

tl_status tl__aggregate_load(struct tl_aggregate *a)
{
    struct tl_repository *r = a->repository;
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    bool has_snapshot;
    int first, rows;
    tl_status status = TL_OK;

    r->stats.loads++;
    if (r->type.restore == NULL) {
        status = load_rest(a);
    } else {
        status = ask(a, &res);
        if (status != TL_OK)
            return status;
        rows = PQntuples(res);
        has_snapshot = rows > 0 && !PQgetisnull(res, 0, SNAPSHOT_VERSION);
        first = has_snapshot ? 1 : 0;
        if (has_snapshot && take_snapshot(a, res) != TL_OK)
            return replay(a);
        for (int i = first; i < rows && status == TL_OK; i++) {
            struct tl_event e;

            tl__event_from_row(res, i, 0, &e);
            status = apply_stored(a, &e);
            if (status == TL_NOTHING && has_snapshot && i == first)
                return replay(a);
            if (status == TL_NOTHING)
                return out_of_order(a);
        }
        if (status == TL_OK && rows - first == FIRST_PAGE_EVENTS)
            status = load_rest(a);
        if (has_snapshot)
            r->stats.snapshot_hits++;
        else if (rows > 0)
            r->stats.snapshot_misses++;
    }
    return status == TL_OK && a->version == 0 ? TL_NOTHING : status;
}
