/*
 * append.c: tl_append, tl_append_in, tl_tx_append: events to one stream. The rules are in SQL; here are
 * shapes and lengths. Data stays opaque: it travels as binary jsonb, in arrays when there are several.
 */
#include "append.h"

#include "arrays.h"
#include "clock.h"
#include "str.h"
#include "worker.h"

#include <string.h>

/* A parameter costs the server as much when it is NULL: what most appends have. */
static const char short_sql[] =
    "SELECT " TL__APPENDED_LIST " FROM @extschema@.append_event(stream => $1, "
    "expected_version => $2, topic => $3, tenant_id => $4, type => $5, data => $6) a";

static const char event_sql[] =
    "SELECT " TL__APPENDED_LIST " FROM @extschema@.append_event(stream => $1, "
    "expected_version => $2, topic => $3, tenant_id => $4, type => $5, data => $6, "
    "metadata => $7, event_id => $8, source => $9) a";

static const char rows_sql[] =
    "SELECT " TL__APPENDED_LIST " FROM @extschema@.append_rows(stream => $1, "
    "expected_version => $2, topic => $3, tenant_id => $4, types => $5, data => $6, "
    "metadata => $7, ids => $8, sources => $9) a";

/* With keys or an expiry: the server puts the JSON together that append() takes. */
static const char extras_sql[] =
    "SELECT " TL__APPENDED_LIST " FROM @extschema@.append(stream => $1, expected_version => $2, "
    "topic => $3, tenant_id => $4, events => (SELECT jsonb_agg(jsonb_build_object('type', e.type, "
    "'data', e.data, 'metadata', e.metadata, 'id', e.id, 'source', e.source, 'key', e.key, "
    "'expires_at', coalesce(e.expires_at, clock_timestamp() + e.ttl)) ORDER BY e.i) "
    "FROM unnest($5::text[], $6::jsonb[], $7::jsonb[], $8::uuid[], $9::text[], $10::text[], "
    "$11::timestamptz[], $12::interval[]) WITH ORDINALITY AS e (type, data, metadata, id, source, "
    "key, expires_at, ttl, i))) a";

static const char json_sql[] = "SELECT cardinality($1::jsonb[]), cardinality($2::jsonb[])";

/* ---------------------------------------------------------------------------------- checks -- */

tl_status tl__stream_check(struct tl_error *e, const char *stream)
{
    size_t len;

    if (stream == NULL)
        return tl__error_set(e, TL_E_INVALID, NULL, "stream is NULL");
    len = strlen(stream);
    if (len < 1 || len > TL_MAX_NAME_BYTES)
        return tl__error_set(e, TL_E_INVALID, NULL, "stream is not 1 to %d bytes",
                             TL_MAX_NAME_BYTES);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)stream[i] < 0x20 || stream[i] == 0x7f)
            return tl__error_set(e, TL_E_INVALID, NULL, "stream has a control character");
    }
    if (!tl__utf8_is_valid(stream, len))
        return tl__error_set(e, TL_E_INVALID, NULL, "stream is not valid UTF-8");
    return TL_OK;
}

tl_status tl__expected_check(struct tl_error *e, int64_t expected_version)
{
    if (expected_version >= TL_EXPECT_EXISTS || expected_version == TL_EXPECT_ANY)
        return TL_OK;
    tl__error_set(e, TL_E_INVALID, NULL, "expected_version is negative");
    tl__error_set_hint(e, "TL_EXPECT_ANY, TL_EXPECT_EXISTS, TL_EXPECT_NO_STREAM or a version");
    return TL_E_INVALID;
}

void tl__param_expected(struct tl__params *p, int64_t expected_version)
{
    if (expected_version == TL_EXPECT_ANY)
        tl__param_null(p);
    else
        tl__param_i64(p, expected_version);
}

tl_status tl__store_topic_load(struct tl_error *e, const char *topic, const char **ret)
{
    *ret = topic != NULL ? topic : "store";
    return tl__topic_check(e, *ret);
}

static tl_status event_check(struct tl_error *e, const tl_new_event *event, const char *tenant_id)
{
    if (event->run_at_us != 0 || event->delay_us != 0)
        return tl__error_set(e, TL_E_INVALID, NULL,
                             "run_at_us and delay_us are not for appended events");
    if (event->expires_at_us != 0 && event->ttl_us != 0)
        return tl__error_set(e, TL_E_INVALID, NULL, "expires_at_us and ttl_us are both given");
    if (event->ttl_us != 0 && event->id != NULL)
        return tl__error_set(e, TL_E_INVALID, NULL,
                             "ttl_us with an id could not be repeated: use expires_at_us");
    if (event->tenant_id != NULL && !tl__str_equal(event->tenant_id, tenant_id))
        return tl__error_set(e, TL_E_INVALID, NULL, "tenant_id differs from that of the append");
    return TL_OK;
}

/* ---------------------------------------------------------------------------------- events -- */

void tl__events_done(struct tl__events *events)
{
    if (events->elements != &events->one)
        free(events->elements);
    events->elements = NULL;
}

tl_status tl__events_load(struct tl_error *e, const tl_new_event *from, size_t n,
                          const char *tenant_id, struct tl__events *ret)
{
    ret->count = n;
    ret->elements = &ret->one;
    if (n > 1) {
        ret->elements = calloc(n, sizeof ret->elements[0]);
        if (ret->elements == NULL)
            return tl__error_nomem(e);
    }
    for (size_t i = 0; i < n; i++) {
        /* The caller may have been compiled with a header whose struct has another size. */
        const tl_new_event *event =
            (const tl_new_event *)(const void *)((const char *)from + i * from->size);
        struct tl__element *el = &ret->elements[i];
        tl_status status;

        status = event->size != from->size
                     ? tl__error_set(e, TL_E_INVALID, NULL, "size differs from the first's")
                     : tl__element_load(e, event, el);
        if (status == TL_OK)
            status = event_check(e, &el->event, tenant_id);
        if (status != TL_OK)
            return tl__error_blame(e, "append", i);
        ret->has_ids |= el->event.id != NULL;
        ret->has_metadata |= el->event.metadata != NULL;
        ret->has_sources |= el->event.source != NULL;
        ret->has_extras |=
            el->event.key != NULL || el->event.expires_at_us != 0 || el->event.ttl_us != 0;
    }
    return TL_OK;
}

/* ------------------------------------------------------------------------------ parameters -- */

static const uint32_t element_oid[TL__ARRAY_COUNT] = {
    TL__OID_TEXT, TL__OID_JSONB, TL__OID_JSONB,       TL__OID_UUID,
    TL__OID_TEXT, TL__OID_TEXT,  TL__OID_TIMESTAMPTZ, TL__OID_INTERVAL};

static bool is_array_wanted(const struct tl__events *list, int array)
{
    switch (array) {
    case TL__ARRAY_METADATA:
        return list->has_metadata;
    case TL__ARRAY_IDS:
        return list->has_ids;
    case TL__ARRAY_SOURCES:
        return list->has_sources;
    case TL__ARRAY_KEYS:
    case TL__ARRAY_EXPIRES:
    case TL__ARRAY_TTLS:
        return list->has_extras;
    default:
        return true;
    }
}

static void add_field(struct tl__buf *out, const struct tl__element *el, int array)
{
    const tl_new_event *event = &el->event;

    switch (array) {
    case TL__ARRAY_TYPES:
        tl__array_add_text(out, event->type);
        break;
    case TL__ARRAY_DATA:
        tl__array_add_jsonb(out, event->data, event->data_len);
        break;
    case TL__ARRAY_METADATA:
        tl__array_add_jsonb(out, event->metadata,
                            event->metadata != NULL ? strlen(event->metadata) : 0);
        break;
    case TL__ARRAY_IDS:
        if (event->id != NULL)
            tl__array_add_value(out, el->uuid, sizeof el->uuid);
        else
            tl__array_add_null(out);
        break;
    case TL__ARRAY_SOURCES:
        tl__array_add_text(out, event->source);
        break;
    case TL__ARRAY_KEYS:
        tl__array_add_text(out, event->key);
        break;
    case TL__ARRAY_EXPIRES:
        tl__array_add_time(out, event->expires_at_us);
        break;
    default:
        tl__array_add_interval(out, event->ttl_us);
    }
}

/* One array of elements [first, end) of a list. */
static void add_elements(struct tl__buf *out, const struct tl__events *list, int array,
                         size_t first, size_t end)
{
    for (size_t i = first; i < end; i++)
        add_field(out, &list->elements[i], array);
}

tl_status tl__events_params(struct tl_error *e, const struct tl__events *lists, size_t n,
                            int array_count, struct tl__buf *bytes, struct tl__params *params)
{
    size_t ends[TL__ARRAY_COUNT];
    size_t start = 0;
    size_t total = 0;

    for (size_t i = 0; i < n; i++)
        total += lists[i].count;
    for (int array = 0; array < array_count; array++) {
        bool is_wanted = false;

        for (size_t i = 0; i < n && !is_wanted; i++)
            is_wanted = is_array_wanted(&lists[i], array);
        if (is_wanted) {
            tl__array_begin(bytes, element_oid[array], total);
            for (size_t i = 0; i < n; i++)
                add_elements(bytes, &lists[i], array, 0, lists[i].count);
        }
        ends[array] = bytes->len;
    }
    if (bytes->is_failed)
        return tl__error_nomem(e);
    if (bytes->len > INT32_MAX)
        return tl__error_set(e, TL_E_LIMIT, NULL, "events do not fit in one message");
    for (int array = 0; array < array_count; array++) {
        if (ends[array] == start)
            tl__param_null(params);
        else
            tl__param_bytes(params, bytes->data + start, ends[array] - start);
        start = ends[array];
    }
    return TL_OK;
}

/* Parameters of a single event, without arrays. */
static tl_status event_params(struct tl_error *e, const struct tl__events *events,
                              struct tl__buf *bytes, struct tl__params *params)
{
    const struct tl__element *el = &events->elements[0];
    const tl_new_event *event = &el->event;
    size_t metadata_len = event->metadata != NULL ? strlen(event->metadata) : 0;
    size_t data_end;

    /* Room for all of it first: the parameters point into it. Binary jsonb: version 1, then the text. */
    if (!tl__buf_reserve(bytes, event->data_len + metadata_len + 2))
        return tl__error_nomem(e);
    tl__buf_add_char(bytes, '\1');
    tl__buf_add(bytes, event->data, event->data_len);
    data_end = bytes->len;
    tl__param_text(params, event->type);
    tl__param_bytes(params, bytes->data, data_end);
    if (!events->has_ids && !events->has_metadata && !events->has_sources)
        return TL_OK;
    if (event->metadata != NULL) {
        tl__buf_add_char(bytes, '\1');
        tl__buf_add(bytes, event->metadata, metadata_len);
        tl__param_bytes(params, bytes->data + data_end, bytes->len - data_end);
    } else {
        tl__param_null(params);
    }
    if (event->id != NULL)
        tl__param_uuid(params, el->uuid);
    else
        tl__param_null(params);
    tl__param_text(params, event->source);
    return TL_OK;
}

/* --------------------------------------------------------------------------------- request -- */

struct request {
    struct tl__events events;
    struct tl__buf bytes;
    struct tl__params params;
    const char *template_text;
};

static void request_done(struct request *r)
{
    tl__events_done(&r->events);
    tl__buf_done(&r->bytes);
}

static tl_status request_load(struct request *r, struct tl_error *e, const char *stream,
                              int64_t expected_version, const tl_new_event *events, size_t n,
                              const tl_append_options *from)
{
    tl_append_options opts;
    const char *topic;
    tl_status status;

    if ((status = tl__options_load(e, "tl_append", &opts, sizeof opts, from)) != TL_OK ||
        (status = tl__stream_check(e, stream)) != TL_OK ||
        (status = tl__expected_check(e, expected_version)) != TL_OK ||
        (status = tl__store_topic_load(e, opts.topic, &topic)) != TL_OK)
        return status;
    if (events == NULL || n < 1 || n > TL_MAX_APPEND)
        return tl__error_set(e, TL_E_INVALID, NULL, "events are not 1 to %d", TL_MAX_APPEND);
    status = tl__events_load(e, events, n, opts.tenant_id, &r->events);
    if (status != TL_OK)
        return status;
    tl__param_text(&r->params, stream);
    tl__param_expected(&r->params, expected_version);
    tl__param_text(&r->params, topic);
    tl__param_text(&r->params, opts.tenant_id);
    if (r->events.has_extras) {
        r->template_text = extras_sql;
        return tl__events_params(e, &r->events, 1, TL__ARRAY_COUNT, &r->bytes, &r->params);
    }
    if (n > 1) {
        r->template_text = rows_sql;
        return tl__events_params(e, &r->events, 1, TL__ARRAY_KEYS, &r->bytes, &r->params);
    }
    status = event_params(e, &r->events, &r->bytes, &r->params);
    r->template_text = r->params.n == 6 ? short_sql : event_sql;
    return status;
}

tl_status tl__appended_take(struct tl_error *e, const PGresult *res, size_t n, tl_appended *ret)
{
    if ((size_t)PQntuples(res) != n)
        return tl__error_set(e, TL_E_SERVER, NULL, "the server stored %d events instead of %zu",
                             PQntuples(res), n);
    for (int i = 0; ret != NULL && i < PQntuples(res); i++) {
        ret[i].position = tl__cell_i64(res, i, 0);
        (void)tl__cell_uuid(res, i, 1, ret[i].id);
        ret[i].version = tl__cell_i64(res, i, 2);
        ret[i].deduplicated = tl__cell_bool(res, i, 3);
    }
    return TL_OK;
}

/* ---------------------------------------------------------------------------------- errors -- */

/* Does the server take the JSON of elements [first, end)? *is_usable: it has answered. */
static bool is_json_bad(tl_client *c, const struct tl__events *list, size_t first, size_t end,
                        bool *is_usable)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf bytes = TL_BUF_INIT;
    struct tl__params params = TL_PARAMS_INIT;
    size_t data_end;
    tl_status status;

    tl__array_begin(&bytes, TL__OID_JSONB, end - first);
    add_elements(&bytes, list, TL__ARRAY_DATA, first, end);
    data_end = bytes.len;
    tl__array_begin(&bytes, TL__OID_JSONB, end - first);
    add_elements(&bytes, list, TL__ARRAY_METADATA, first, end);
    if (bytes.is_failed) {
        *is_usable = false;
        return false;
    }
    tl__param_bytes(&params, bytes.data, data_end);
    tl__param_bytes(&params, bytes.data + data_end, bytes.len - data_end);
    c->deadline_us = tl__deadline_us(tl__clock_us(), c->settings.timeout_us);
    status = tl__call(c, TL__READS, NULL, json_sql, &params, NULL);
    *is_usable = status == TL_OK || (status == TL_E_INVALID && c->error.sqlstate[0] == '2') ||
                 status == TL_E_LIMIT;
    return status != TL_OK;
}

/* The first element of a list whose JSON the server refuses; false: none, or it cannot say. c->error is
 * that refusal. */
static bool find_bad_json(tl_client *c, const struct tl__events *list, size_t *ret)
{
    bool is_usable = true;
    size_t first = 0;
    size_t end = list->count;

    if (end == 0 || !is_json_bad(c, list, first, end, &is_usable))
        return false;
    while (is_usable && end - first > 1) {
        size_t middle = first + (end - first) / 2;

        if (is_json_bad(c, list, first, middle, &is_usable))
            end = middle;
        else
            first = middle;
    }
    *ret = first;
    return is_usable && is_json_bad(c, list, first, end, &is_usable) && is_usable;
}

tl_status tl__append_explain(tl_client *c, const struct tl__events *lists, size_t n,
                             bool is_by_list, tl_status status)
{
    struct tl_error first = c->error;
    size_t index;

    /* An error with an index is explained already; one of JSON comes before any code of ours runs. */
    if (first.index >= 0 || c->conn == NULL ||
        (strncmp(first.sqlstate, "22", 2) != 0 && strncmp(first.sqlstate, "54", 2) != 0))
        return status;
    for (size_t i = 0; i < n; i++) {
        if (!find_bad_json(c, &lists[i], &index))
            continue;
        if (strcmp(c->error.sqlstate, "22P02") == 0)
            tl__json_named(&c->error, "data or metadata", status);
        status = tl__error_blame(&c->error, "append", index);
        if (is_by_list)
            c->error.index = (int64_t)i;
        return status;
    }
    c->error = first;
    return status;
}

/* ----------------------------------------------------------------------------------- calls -- */

tl_status tl_append(tl_client *c, const char *stream, int64_t expected_version,
                    const tl_new_event *events, size_t n, const tl_append_options *opts,
                    tl_appended *ret)
{
    TL_CLEANUP(request_done)
    struct request r = {.params = TL_PARAMS_INIT};
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = request_load(&r, &c->error, stream, expected_version, events, n, opts)) !=
            TL_OK ||
        (status = tl__call_begin(c)) != TL_OK)
        return status;
    status = tl__call(c, TL__WRITES, NULL, r.template_text, &r.params, &res);
    if (status != TL_OK)
        return tl__append_explain(c, &r.events, 1, false, status);
    return tl__appended_take(&c->error, res, n, ret);
}

static tl_status append_on(PGconn *conn, const char *schema, const char *stream,
                           int64_t expected_version, const tl_new_event *events, size_t n,
                           const tl_append_options *opts, tl_appended *ret, struct tl_error *e)
{
    TL_CLEANUP(request_done)
    struct request r = {.params = TL_PARAMS_INIT};
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    tl_status status;

    tl__error_clear(e);
    if ((status = request_load(&r, e, stream, expected_version, events, n, opts)) != TL_OK ||
        (status = tl__exec_on(conn, schema, NULL, r.template_text, &r.params, e, &res)) != TL_OK)
        return status;
    return tl__appended_take(e, res, n, ret);
}

tl_status tl_append_in(struct pg_conn *conn, const char *schema, const char *stream,
                       int64_t expected_version, const tl_new_event *events, size_t n,
                       const tl_append_options *opts, tl_appended *ret, tl_error **ret_error)
{
    struct tl_error error;
    tl_status status =
        append_on(conn, schema, stream, expected_version, events, n, opts, ret, &error);

    if (status != TL_OK)
        tl__error_give(&error, ret_error);
    return status;
}

tl_status tl_tx_append(tl_tx *tx, const char *stream, int64_t expected_version,
                       const tl_new_event *events, size_t n, const tl_append_options *opts,
                       tl_appended *ret)
{
    struct tl_client *c = &tx->client;

    if (c->conn == NULL)
        return tl__error_set(&c->error, TL_E_CONNECTION, NULL,
                             "the connection of the handler's transaction is lost");
    (void)PQsetnonblocking(c->conn, 0);
    return append_on(c->conn, c->settings.schema, stream, expected_version, events, n, opts, ret,
                     &c->error);
}
