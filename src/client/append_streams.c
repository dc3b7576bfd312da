/* append_streams.c: tl_append_streams: several streams, all or none. */
#include "append.h"

#include "arrays.h"

#include <string.h>

#define MAX_WRITES 1000

/* The server puts the JSON together that append_streams() takes: no text of ours becomes JSON. */
static const char streams_sql[] =
    "SELECT " TL__APPENDED_LIST " FROM @extschema@.append_streams(writes => ("
    "SELECT jsonb_agg(jsonb_build_object('stream', w.stream, 'expected_version', CASE w.expected "
    "WHEN -1 THEN '\"exists\"'::jsonb WHEN 0 THEN '\"no_stream\"' ELSE to_jsonb(w.expected) END, "
    "'events', coalesce(x.events, '[]')) ORDER BY w.i) "
    "FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS w (stream, expected, i) "
    "LEFT JOIN (SELECT e.write, jsonb_agg(jsonb_build_object('type', e.type, 'data', e.data, "
    "'metadata', e.metadata, 'id', e.id, 'source', e.source, 'key', e.key, "
    "'expires_at', coalesce(e.expires_at, clock_timestamp() + e.ttl)) ORDER BY e.i) AS events "
    "FROM unnest($3::bigint[], $6::text[], $7::jsonb[], $8::jsonb[], $9::uuid[], $10::text[], "
    "$11::text[], $12::timestamptz[], $13::interval[]) WITH ORDINALITY AS e (write, type, data, "
    "metadata, id, source, key, expires_at, ttl, i) GROUP BY e.write) x ON x.write = w.i), "
    "topic => $4, tenant_id => $5) a";

struct writes {
    size_t count;
    const char **streams;
    int64_t *expected;
    struct tl__events *lists;
    size_t event_count;
    struct tl__buf heads, bytes;
};

static void writes_done(struct writes *w)
{
    for (size_t i = 0; w->lists != NULL && i < w->count; i++)
        tl__events_done(&w->lists[i]);
    free(w->lists);
    free((void *)w->streams);
    free(w->expected);
    tl__buf_done(&w->heads);
    tl__buf_done(&w->bytes);
}

static tl_status write_load(struct writes *w, struct tl_error *e, const tl_stream_write *from,
                            size_t i, const char *tenant_id)
{
    tl_stream_write write;
    tl_status status;

    if ((status = tl__options_load(e, "write", &write, sizeof write, from)) != TL_OK ||
        (status = tl__stream_check(e, write.stream)) != TL_OK ||
        (status = tl__expected_check(e, write.expected_version)) != TL_OK)
        return status;
    if (write.event_count > TL_MAX_APPEND - w->event_count)
        return tl__error_set(e, TL_E_INVALID, NULL, "events are more than %d", TL_MAX_APPEND);
    if (write.event_count > 0 && write.events == NULL)
        return tl__error_set(e, TL_E_INVALID, NULL, "events is NULL");
    w->event_count += write.event_count;
    w->streams[i] = write.stream;
    w->expected[i] = write.expected_version;
    return tl__events_load(e, write.events, write.event_count, tenant_id, &w->lists[i]);
}

static tl_status writes_load(struct writes *w, struct tl_error *e, const tl_stream_write *from,
                             const char *tenant_id)
{
    if (from == NULL || w->count < 1 || w->count > MAX_WRITES)
        return tl__error_set(e, TL_E_INVALID, NULL, "writes are not 1 to %d", MAX_WRITES);
    w->streams = calloc(w->count, sizeof w->streams[0]);
    w->expected = calloc(w->count, sizeof w->expected[0]);
    w->lists = calloc(w->count, sizeof w->lists[0]);
    if (w->streams == NULL || w->expected == NULL || w->lists == NULL)
        return tl__error_nomem(e);
    for (size_t i = 0; i < w->count; i++) {
        const tl_stream_write *write =
            (const tl_stream_write *)(const void *)((const char *)from + i * from->size);
        tl_status status;

        status = write->size != from->size
                     ? tl__error_set(e, TL_E_INVALID, NULL, "size differs from the first's")
                     : write_load(w, e, write, i, tenant_id);
        if (status != TL_OK) {
            e->index = (int64_t)i;
            return status;
        }
    }
    if (w->event_count == 0)
        return tl__error_set(e, TL_E_INVALID, NULL, "no write has an event");
    return TL_OK;
}

/* Names and expected versions of the streams, and for each event the number of its write, from 1. */
static tl_status heads_params(struct writes *w, struct tl_error *e, struct tl__params *params)
{
    struct tl__buf *out = &w->heads;
    size_t ends[3];

    tl__array_begin(out, TL__OID_TEXT, w->count);
    for (size_t i = 0; i < w->count; i++)
        tl__array_add_text(out, w->streams[i]);
    ends[0] = out->len;
    tl__array_begin(out, TL__OID_INT8, w->count);
    for (size_t i = 0; i < w->count; i++) {
        if (w->expected[i] == TL_EXPECT_ANY)
            tl__array_add_null(out);
        else
            tl__array_add_i64(out, w->expected[i]);
    }
    ends[1] = out->len;
    tl__array_begin(out, TL__OID_INT8, w->event_count);
    for (size_t i = 0; i < w->count; i++) {
        for (size_t k = 0; k < w->lists[i].count; k++)
            tl__array_add_i64(out, (int64_t)i + 1);
    }
    ends[2] = out->len;
    if (out->is_failed)
        return tl__error_nomem(e);
    tl__param_bytes(params, out->data, ends[0]);
    tl__param_bytes(params, out->data + ends[0], ends[1] - ends[0]);
    tl__param_bytes(params, out->data + ends[1], ends[2] - ends[1]);
    return TL_OK;
}

tl_status tl_append_streams(tl_client *c, const tl_stream_write *from, size_t n,
                            const tl_append_options *from_opts, tl_appended *ret)
{
    TL_CLEANUP(writes_done)
    struct writes w = {.count = n};
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    struct tl__params params = TL_PARAMS_INIT;
    struct tl_error *e = &c->error;
    tl_append_options opts;
    const char *topic;
    tl_status status;

    tl__error_clear(e);
    if ((status = tl__options_load(e, "tl_append_streams", &opts, sizeof opts, from_opts)) !=
            TL_OK ||
        (status = tl__store_topic_load(e, opts.topic, &topic)) != TL_OK ||
        (status = writes_load(&w, e, from, opts.tenant_id)) != TL_OK ||
        (status = heads_params(&w, e, &params)) != TL_OK)
        return status;
    tl__param_text(&params, topic);
    tl__param_text(&params, opts.tenant_id);
    if ((status = tl__events_params(e, w.lists, n, TL__ARRAY_COUNT, &w.bytes, &params)) != TL_OK ||
        (status = tl__call_begin(c)) != TL_OK)
        return status;
    status = tl__call(c, TL__WRITES, NULL, streams_sql, &params, &res);
    if (status != TL_OK)
        return tl__append_explain(c, w.lists, n, true, status);
    return tl__appended_take(e, res, w.event_count, ret);
}
