/*
 * publish_batch.c: many events, all or none. Chunks travel as binary arrays, one INSERT each; more
 * than one chunk is a pipeline between BEGIN and COMMIT. A failing batch is searched for the
 * element to blame by trying parts of it in transactions that are rolled back.
 */
#include "publish.h"

#include "arrays.h"
#include "clock.h"

#include <string.h>

/* The arrays that a chunk sends, in the order of the parameters. */
enum {
    TYPES,
    SOURCES,
    KEYS,
    TENANTS,
    DATA,
    METADATA,
    EXPIRES,
    IDS,
    RUN_ATS,
    DELAYS,
    TTLS,
    ARRAY_COUNT
};

static const uint32_t element_oid[ARRAY_COUNT] = {
    TL__OID_TEXT,        TL__OID_TEXT,     TL__OID_TEXT,        TL__OID_TEXT,
    TL__OID_JSONB,       TL__OID_JSONB,    TL__OID_TIMESTAMPTZ, TL__OID_UUID,
    TL__OID_TIMESTAMPTZ, TL__OID_INTERVAL, TL__OID_INTERVAL};

#define ELEMENTS                                                                                   \
    "unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::jsonb[], "            \
    "$7::timestamptz[]"

/* Without FROM: set-returning functions side by side give their rows in the order of the arrays, NULL behind the end
 * of one that was not sent, and need no table for each of them and no sort. The position is in the id. */
static const char insert_sql[] =
    "INSERT INTO @extschema@.topic_@topic@ (type, source, key, tenant_id, data, metadata, "
    "expires_at) SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::text[]), "
    "unnest($4::text[]), unnest($5::jsonb[]), unnest($6::jsonb[]), unnest($7::timestamptz[]) "
    "RETURNING id";

/* With ids: publish() for each, which knows what was published before. */
static const char publish_sql[] =
    "SELECT p.\"position\", p.id, p.deduplicated FROM " ELEMENTS ", $8::uuid[]) WITH ORDINALITY "
    "AS e (type, source, key, tenant_id, data, metadata, expires_at, id, i) CROSS JOIN LATERAL "
    "@extschema@.publish(type => e.type, source => e.source, key => e.key, "
    "tenant_id => e.tenant_id, data => e.data, metadata => e.metadata, "
    "expires_at => e.expires_at, event_id => e.id, topic => $9) p ORDER BY e.i";

/* With due times: likewise. */
static const char later_sql[] =
    "SELECT p.\"position\", p.id, p.deduplicated FROM " ELEMENTS
    ", $8::uuid[], $9::timestamptz[], $10::interval[], $11::interval[]) WITH ORDINALITY "
    "AS e (type, source, key, tenant_id, data, metadata, expires_at, id, run_at, delay, ttl, i) "
    "CROSS JOIN LATERAL @extschema@.publish(type => e.type, source => e.source, key => e.key, "
    "tenant_id => e.tenant_id, data => e.data, metadata => e.metadata, "
    "expires_at => e.expires_at, event_id => e.id, topic => $12, run_at => e.run_at, "
    "delay => e.delay, ttl => e.ttl) p ORDER BY e.i";

struct batch {
    tl_client *c;
    const char *topic;
    struct tl__element *elements;
    size_t count;
    bool has_ids, has_times;
    size_t chunk_count;
    size_t *chunk_ends; /* chunk i is [chunk_ends[i - 1], chunk_ends[i]) */
    PGresult **results; /* one for each chunk */
};

static void batch_done(struct batch *b)
{
    for (size_t i = 0; b->results != NULL && i < b->chunk_count; i++)
        PQclear(b->results[i]);
    free(b->results);
    free(b->chunk_ends);
    free(b->elements);
}

/* ------------------------------------------------------------------------------- load, chunk -- */

static tl_status batch_load(struct batch *b, const tl_new_event *events)
{
    struct tl_error *e = &b->c->error;
    size_t stride;

    if (events == NULL || b->count == 0)
        return tl__error_set(e, TL_E_INVALID, NULL, "batch is empty");
    /* The caller may have been compiled with a header whose struct has another size. */
    stride = events->size;
    b->elements = calloc(b->count, sizeof b->elements[0]);
    b->chunk_ends = calloc(b->count, sizeof b->chunk_ends[0]);
    if (b->elements == NULL || b->chunk_ends == NULL)
        return tl__error_nomem(e);
    for (size_t i = 0; i < b->count; i++) {
        const tl_new_event *from =
            (const tl_new_event *)(const void *)((const char *)events + i * stride);
        tl_status status;

        status = from->size != stride
                     ? tl__error_set(e, TL_E_INVALID, NULL, "size differs from the first's")
                     : tl__element_load(e, from, &b->elements[i]);
        if (status != TL_OK)
            return tl__error_blame(e, "batch", i);
        b->has_ids |= b->elements[i].event.id != NULL;
        b->has_times |= tl__element_is_timed(&b->elements[i]);
    }
    return TL_OK;
}

static void batch_cut(struct batch *b)
{
    size_t first = 0;
    size_t bytes = 0;

    for (size_t i = 0; i < b->count; i++) {
        size_t next = tl__element_bytes(&b->elements[i]);

        if (i > first && (i - first == TL__CHUNK_EVENTS || bytes + next > TL__CHUNK_BYTES)) {
            b->chunk_ends[b->chunk_count++] = i;
            first = i;
            bytes = 0;
        }
        bytes += next;
    }
    b->chunk_ends[b->chunk_count++] = b->count;
}

/* -------------------------------------------------------------------------------- parameters -- */

static void add_field(struct tl__buf *out, const struct tl__element *el, int array)
{
    const tl_new_event *event = &el->event;

    switch (array) {
    case TYPES:
        tl__array_add_text(out, event->type);
        break;
    case SOURCES:
        tl__array_add_text(out, event->source);
        break;
    case KEYS:
        tl__array_add_text(out, event->key);
        break;
    case TENANTS:
        tl__array_add_text(out, event->tenant_id);
        break;
    case DATA:
        tl__array_add_jsonb(out, event->data, event->data_len);
        break;
    case METADATA:
        tl__array_add_jsonb(out, event->metadata,
                            event->metadata != NULL ? strlen(event->metadata) : 0);
        break;
    case EXPIRES:
        tl__array_add_time(out, event->expires_at_us);
        break;
    case RUN_ATS:
        tl__array_add_time(out, event->run_at_us);
        break;
    case DELAYS:
        tl__array_add_interval(out, event->delay_us);
        break;
    case TTLS:
        tl__array_add_interval(out, event->ttl_us);
        break;
    default:
        if (event->id == NULL)
            tl__array_add_null(out);
        else
            tl__array_add_value(out, el->uuid, sizeof el->uuid);
    }
}

static bool is_array_wanted(const struct tl__element *el, int array)
{
    switch (array) {
    case SOURCES:
        return el->event.source != NULL;
    case KEYS:
        return el->event.key != NULL;
    case TENANTS:
        return el->event.tenant_id != NULL;
    case METADATA:
        return el->event.metadata != NULL;
    case EXPIRES:
        return el->event.expires_at_us != 0;
    case RUN_ATS:
        return el->event.run_at_us != 0;
    case DELAYS:
        return el->event.delay_us != 0;
    case TTLS:
        return el->event.ttl_us != 0;
    default:
        return true;
    }
}

tl_status tl__chunk_params(struct tl_error *e, const struct tl__chunk *chunk, const char *topic,
                           struct tl__buf *out, struct tl__params *ret)
{
    int array_count = chunk->has_times ? ARRAY_COUNT : chunk->has_ids ? IDS + 1 : IDS;
    size_t starts[ARRAY_COUNT];
    size_t ends[ARRAY_COUNT];

    tl__buf_clear(out);
    for (int array = 0; array < array_count; array++) {
        bool is_wanted = false;

        for (size_t i = 0; i < chunk->count && !is_wanted; i++)
            is_wanted = is_array_wanted(&chunk->elements[i], array);
        starts[array] = out->len;
        if (is_wanted) {
            tl__array_begin(out, element_oid[array], chunk->count);
            for (size_t i = 0; i < chunk->count; i++)
                add_field(out, &chunk->elements[i], array);
        }
        ends[array] = out->len;
    }
    if (out->is_failed)
        return tl__error_nomem(e);
    if (out->len > INT32_MAX)
        return tl__error_set(e, TL_E_LIMIT, NULL, "batch does not fit in one message");
    for (int array = 0; array < array_count; array++) {
        if (starts[array] == ends[array])
            tl__param_null(ret);
        else
            tl__param_bytes(ret, out->data + starts[array], ends[array] - starts[array]);
    }
    if (chunk->has_ids || chunk->has_times)
        tl__param_text(ret, topic);
    return TL_OK;
}

const char *tl__chunk_template(const struct tl__chunk *chunk)
{
    return chunk->has_times ? later_sql : chunk->has_ids ? publish_sql : insert_sql;
}

const char *tl__chunk_topic(const struct tl__chunk *chunk, const char *topic)
{
    return chunk->has_ids || chunk->has_times ? NULL : topic;
}

/* Elements [first, end) of a batch. All its chunks are sent by one statement. */
static struct tl__chunk chunk_of(const struct batch *b, size_t first, size_t end)
{
    return (struct tl__chunk){&b->elements[first], end - first, b->has_ids, b->has_times};
}

static tl_status chunk_params(struct batch *b, size_t first, size_t end, struct tl__buf *out,
                              struct tl__params *ret)
{
    struct tl__chunk chunk = chunk_of(b, first, end);

    return tl__chunk_params(&b->c->error, &chunk, b->topic, out, ret);
}

static const char *batch_template(const struct batch *b)
{
    struct tl__chunk all = chunk_of(b, 0, b->count);

    return tl__chunk_template(&all);
}

static const char *batch_topic(const struct batch *b)
{
    struct tl__chunk all = chunk_of(b, 0, b->count);

    return tl__chunk_topic(&all, b->topic);
}

/* ------------------------------------------------------------------------------------- send -- */

/* One chunk: one statement is a transaction. */
static tl_status send_single(struct batch *b)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf arrays = TL_BUF_INIT;
    struct tl__params params = TL_PARAMS_INIT;
    tl_status status = chunk_params(b, 0, b->count, &arrays, &params);

    if (status != TL_OK)
        return status;
    return tl__call(b->c, TL__WRITES, batch_topic(b), batch_template(b), &params, &b->results[0]);
}

static tl_status lost(struct tl__exec *x)
{
    if (x->c->conn != NULL) {
        tl__error_from_conn(&x->c->error, x->c->conn, x->is_sent);
        tl__client_drop_conn(x->c);
    }
    return x->c->error.status;
}

static tl_status queue_chunks(struct batch *b, struct tl__exec *x, const struct tl__statement *st)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf arrays = TL_BUF_INIT;
    PGconn *conn = b->c->conn;
    tl_status status;
    size_t first = 0;

    if (!PQsendQueryParams(conn, "BEGIN", 0, NULL, NULL, NULL, NULL, 1))
        return lost(x);
    for (size_t i = 0; i < b->chunk_count; i++) {
        struct tl__params params = TL_PARAMS_INIT;

        status = chunk_params(b, first, b->chunk_ends[i], &arrays, &params);
        if (status != TL_OK) {
            tl__client_drop_conn(b->c); /* half a pipeline is of no use: the server rolls back */
            return status;
        }
        first = b->chunk_ends[i];
        if (!tl__client_send(b->c, st, &params))
            return lost(x);
        status = tl__exec_flush(x);
        if (status != TL_OK)
            return status;
    }
    x->is_sent = true; /* from here on a COMMIT may be on its way */
    if (!PQsendQueryParams(conn, "COMMIT", 0, NULL, NULL, NULL, NULL, 1) || !PQpipelineSync(conn))
        return lost(x);
    return tl__exec_flush(x);
}

/* The one result of a queued statement and the NULL behind it. A failure goes into c->error, once;
 * *ret_is_failed tells. Returns an error only when the connection is gone. */
static tl_status take_result(struct tl__exec *x, PGresult **ret, bool *is_failed)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    ExecStatusType kind = PGRES_COMMAND_OK;
    bool is_first = true;

    for (;;) {
        PGresult *next;
        tl_status status = tl__exec_result(x, &next);

        if (status != TL_OK)
            return status;
        if (next == NULL)
            break;
        kind = PQresultStatus(next);
        if (is_first) {
            PQclear(res);
            res = next;
            is_first = false;
        } else {
            PQclear(next);
        }
        if (kind == PGRES_PIPELINE_SYNC)
            break;
        if (kind == PGRES_FATAL_ERROR && !*is_failed) {
            (void)tl__exec_error(x, res);
            *is_failed = true;
        }
        if (PQstatus(x->c->conn) != CONNECTION_OK)
            break;
    }
    if (PQstatus(x->c->conn) != CONNECTION_OK) {
        if (*is_failed && x->c->error.status == TL_E_CONNECTION)
            tl__client_drop_conn(x->c);
        return lost(x);
    }
    if (ret != NULL)
        *ret = TL_STEAL(res);
    return TL_OK;
}

/* Results in the order sent: BEGIN, chunks, COMMIT, the sync. */
static tl_status take_results(struct batch *b, struct tl__exec *x)
{
    bool is_failed = false;
    tl_status status = take_result(x, NULL, &is_failed);

    for (size_t i = 0; status == TL_OK && i < b->chunk_count; i++)
        status = take_result(x, &b->results[i], &is_failed);
    if (status == TL_OK)
        status = take_result(x, NULL, &is_failed);
    if (status == TL_OK)
        status = take_result(x, NULL, &is_failed);
    if (status != TL_OK)
        return status;
    return is_failed ? x->c->error.status : TL_OK;
}

/* Leave pipeline mode and a failed transaction; the error stays. */
static void clean_up(tl_client *c)
{
    struct tl_error error = c->error;

    if (c->conn == NULL)
        return;
    if (!PQexitPipelineMode(c->conn)) {
        tl__client_drop_conn(c);
    } else if (PQtransactionStatus(c->conn) != PQTRANS_IDLE) {
        c->deadline_us = tl__deadline_us(tl__clock_us(), c->settings.timeout_us);
        if (tl__call_simple(c, TL__READS, "ROLLBACK", NULL) != TL_OK)
            tl__client_drop_conn(c);
    }
    c->error = error;
}

static tl_status send_pipeline(struct batch *b)
{
    tl_client *c = b->c;
    tl_status status;

    for (;;) {
        struct tl__exec x = tl__exec_start(c, TL__WRITES);
        struct tl__statement *st;

        status = tl__client_statement(c, batch_topic(b), batch_template(b), &st);
        if (status != TL_OK)
            return status;
        if (!PQenterPipelineMode(c->conn))
            return lost(&x);
        status = queue_chunks(b, &x, st);
        if (status == TL_OK)
            status = take_results(b, &x);
        clean_up(c);
        if (status == TL_OK || !tl__client_is_vanished(c, st))
            return status;
        for (size_t i = 0; i < b->chunk_count; i++) {
            PQclear(b->results[i]);
            b->results[i] = NULL;
        }
    }
}

/* ------------------------------------------------------------------------------------ blame -- */

static bool is_about_an_element(const struct tl_error *e)
{
    const char *s = e->sqlstate;

    return strncmp(s, "22", 2) == 0 || strncmp(s, "23", 2) == 0 || strcmp(s, "54000") == 0 ||
           strcmp(s, "TL001") == 0 || strcmp(s, "TL003") == 0 || strcmp(s, "TL005") == 0 ||
           strcmp(s, "TL007") == 0;
}

/* Does storing [first, end) fail on an element? Nothing stays. c->error has the failure. */
static bool is_bad(struct batch *b, size_t first, size_t end, bool *is_usable)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf arrays = TL_BUF_INIT;
    struct tl__params params = TL_PARAMS_INIT;
    struct tl_error error;
    tl_status status;

    b->c->deadline_us = tl__deadline_us(tl__clock_us(), b->c->settings.timeout_us);
    status = chunk_params(b, first, end, &arrays, &params);
    if (status == TL_OK)
        status = tl__call_simple(b->c, TL__READS, "BEGIN", NULL);
    if (status != TL_OK) {
        *is_usable = false;
        return false;
    }
    status = tl__call(b->c, TL__READS, batch_topic(b), batch_template(b), &params, NULL);
    error = b->c->error;
    if (b->c->conn == NULL || tl__call_simple(b->c, TL__READS, "ROLLBACK", NULL) != TL_OK ||
        (status != TL_OK && !is_about_an_element(&error)))
        *is_usable = false;
    b->c->error = error;
    return status != TL_OK;
}

/* Find the first element to blame: the chunk that failed, then halves of it. */
static tl_status find_culprit(struct batch *b, tl_status status)
{
    struct tl_error original = b->c->error;
    bool is_usable = b->c->conn != NULL;
    size_t first = 0;
    size_t end = b->count;

    if (!is_about_an_element(&original))
        return tl__publish_explain(b->c, b->topic, status);
    for (size_t i = 0; i < b->chunk_count; i++) {
        if (b->results[i] == NULL || PQresultStatus(b->results[i]) != PGRES_TUPLES_OK) {
            first = i == 0 ? 0 : b->chunk_ends[i - 1];
            end = b->chunk_ends[i];
            break;
        }
    }
    while (is_usable && end - first > 1) {
        size_t middle = first + (end - first) / 2;

        if (is_bad(b, first, middle, &is_usable))
            end = middle;
        else
            first = middle;
    }
    /* Alone it must fail in the same way: an id that stands twice in the batch, say, is to blame
     * together with another element only. */
    if (is_usable && is_bad(b, first, end, &is_usable) && is_usable) {
        (void)tl__publish_explain(b->c, b->topic, b->c->error.status);
        return tl__error_blame(&b->c->error, "batch", first);
    }
    b->c->error = original;
    return tl__publish_explain(b->c, b->topic, status);
}

/* ------------------------------------------------------------------------------------- call -- */

static void give_receipts(const struct batch *b, tl_receipt *ret)
{
    size_t at = 0;

    for (size_t i = 0; i < b->chunk_count; i++) {
        for (int row = 0; row < PQntuples(b->results[i]) && at < b->count; row++)
            tl__receipt_from_row(b->results[i], row, &ret[at++]);
    }
}

tl_status tl_publish_batch(tl_client *c, const char *topic, const tl_new_event *events, size_t n,
                           tl_receipt *ret)
{
    TL_CLEANUP(batch_done)
    struct batch b = {.c = c, .count = n};
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = tl__topic_load(&c->error, topic, &b.topic)) != TL_OK ||
        (status = batch_load(&b, events)) != TL_OK || (status = tl__call_begin(c)) != TL_OK)
        return status;
    batch_cut(&b);
    b.results = calloc(b.chunk_count, sizeof(PGresult *));
    if (b.results == NULL)
        return tl__error_nomem(&c->error);
    status = b.chunk_count == 1 ? send_single(&b) : send_pipeline(&b);
    if (status != TL_OK)
        return find_culprit(&b, status);
    if (ret != NULL)
        give_receipts(&b, ret);
    return TL_OK;
}
