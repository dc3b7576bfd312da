/*
 * event.c: rows of the log as events, batches of them, and an event as JSON. Text is not copied:
 * it points into the libpq result that the batch owns.
 */
#include "internal.h"

#include "arrays.h"
#include "clock.h"
#include "json.h"
#include "json_peek.h"

#include <string.h>

/* JSON as text, or as binary jsonb: a version byte, then the text. */
static const char *cell_json(const PGresult *res, int row, int col, size_t *ret_len)
{
    size_t skip = PQftype(res, col) == TL__OID_JSONB && PQgetlength(res, row, col) > 0 ? 1 : 0;

    if (PQgetisnull(res, row, col)) {
        *ret_len = 0;
        return NULL;
    }
    *ret_len = (size_t)PQgetlength(res, row, col) - skip;
    return PQgetvalue(res, row, col) + skip;
}

void tl__event_from_row(const PGresult *res, int row, int first_col, struct tl_event *ret)
{
    int col = first_col;

    ret->position = tl__cell_i64(res, row, col++);
    if (!tl__cell_uuid(res, row, col++, ret->id))
        ret->id[0] = '\0';
    ret->type = tl__cell_text(res, row, col++);
    ret->source = tl__cell_text(res, row, col++);
    ret->stream = tl__cell_text(res, row, col++);
    ret->version = tl__cell_i64(res, row, col++);
    ret->key = tl__cell_text(res, row, col++);
    ret->tenant_id = tl__cell_text(res, row, col++);
    ret->data = cell_json(res, row, col++, &ret->data_len);
    ret->metadata = cell_json(res, row, col++, &ret->metadata_len);
    ret->expires_at_us = tl__cell_time(res, row, col++);
    ret->created_at_us = tl__cell_time(res, row, col);
    ret->schema_version = 0;
}

struct tl_batch *tl__batch_new(PGresult *res, int first_event_col, int token_col, int attempt_col)
{
    size_t count = (size_t)PQntuples(res);
    struct tl_batch *b = calloc(1, sizeof *b + count * sizeof b->events[0]);

    if (b == NULL) {
        PQclear(res);
        return NULL;
    }
    b->res = res;
    b->count = count;
    for (size_t i = 0; i < count; i++)
        tl__event_from_row(res, (int)i, first_event_col, &b->events[i]);
    if (count > 0)
        b->upto = b->events[count - 1].position;
    if (attempt_col < 0)
        return b;
    b->is_claim = true;
    b->attempts = calloc(count + 1, sizeof b->attempts[0]);
    if (b->attempts == NULL)
        return tl_batch_free(b);
    for (size_t i = 0; i < count; i++)
        b->attempts[i] = (uint32_t)tl__cell_i64(res, (int)i, attempt_col);
    if (count > 0)
        (void)tl__cell_uuid(res, 0, token_col, b->token);
    return b;
}

/* ----------------------------------------------------------------------------------- batch -- */

size_t tl_batch_count(const tl_batch *b)
{
    return b == NULL ? 0 : b->count;
}

const tl_event *tl_batch_event(const tl_batch *b, size_t i)
{
    return b != NULL && i < b->count ? &b->events[i] : NULL;
}

int64_t tl_batch_upto(const tl_batch *b)
{
    return b == NULL ? 0 : b->upto;
}

const char *tl_batch_token(const tl_batch *b)
{
    return b != NULL && b->is_claim && b->count > 0 ? b->token : NULL;
}

uint32_t tl_batch_attempt(const tl_batch *b, size_t i)
{
    return b != NULL && b->attempts != NULL && i < b->count ? b->attempts[i] : 0;
}

tl_batch *tl_batch_free(tl_batch *b)
{
    if (b != NULL) {
        PQclear(b->res);
        free(b->attempts);
        free(b);
    }
    return NULL;
}

/* ----------------------------------------------------------------------------------- event -- */

int64_t tl_event_position(const tl_event *e)
{
    return e->position;
}

const char *tl_event_id(const tl_event *e)
{
    return e->id;
}

const char *tl_event_type(const tl_event *e)
{
    return e->type;
}

const char *tl_event_data(const tl_event *e, size_t *ret_len)
{
    if (ret_len != NULL)
        *ret_len = e->data_len;
    return e->data;
}

const char *tl_event_metadata(const tl_event *e, size_t *ret_len)
{
    if (ret_len != NULL)
        *ret_len = e->metadata_len;
    return e->metadata;
}

const char *tl_event_source(const tl_event *e)
{
    return e->source;
}

const char *tl_event_stream(const tl_event *e)
{
    return e->stream;
}

int64_t tl_event_version(const tl_event *e)
{
    return e->version;
}

const char *tl_event_key(const tl_event *e)
{
    return e->key;
}

const char *tl_event_tenant_id(const tl_event *e)
{
    return e->tenant_id;
}

int64_t tl_event_created_at_us(const tl_event *e)
{
    return e->created_at_us;
}

int64_t tl_event_expires_at_us(const tl_event *e)
{
    return e->expires_at_us;
}

/* What metadata says, in the words of the store. */

int32_t tl_event_schema_version(const tl_event *e)
{
    int64_t version = 0;

    if (e->schema_version != 0)
        return e->schema_version;
    if (e->metadata == NULL ||
        !tl__json_member_i64(e->metadata, e->metadata_len, "schema_version", &version) ||
        version < 1 || version > INT32_MAX)
        return 1;
    return (int32_t)version;
}

bool tl_event_is_redacted(const tl_event *e)
{
    const char *value;
    size_t len;

    return e->metadata != NULL && e->data_len == strlen("null") &&
           memcmp(e->data, "null", e->data_len) == 0 &&
           tl__json_member(e->metadata, e->metadata_len, "redacted", &value, &len) &&
           value[0] == '{';
}

/* ------------------------------------------------------------------------------------ json -- */

/* Names come as they stand in the text, with what is around them: all of it is written for each event. */
static void add_text_member(struct tl__buf *b, const char *name, const char *value)
{
    tl__buf_add_str(b, name);
    tl__json_add_text(b, value);
}

/* JSON text that PostgreSQL gave goes in as it is. */
static void add_json_member(struct tl__buf *b, const char *name, const char *value, size_t len)
{
    tl__buf_add_str(b, name);
    if (value == NULL)
        tl__json_add_text(b, NULL);
    else
        tl__buf_add(b, value, len);
}

static void add_time_member(struct tl__buf *b, const char *name, int64_t at_us)
{
    char text[TL_TIME_TEXT_SIZE];

    if (at_us != 0)
        tl__time_format(at_us, text);
    add_text_member(b, name, at_us != 0 ? text : NULL);
}

char *tl_event_to_json(const tl_event *e, size_t *ret_len)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf b = TL_BUF_INIT;

    (void)tl__buf_reserve(&b, 512 + e->data_len + e->metadata_len);
    tl__buf_add_str(&b, "{\"position\":");
    tl__buf_add_i64(&b, e->position);
    add_text_member(&b, ",\"id\":", e->id);
    add_text_member(&b, ",\"type\":", e->type);
    add_text_member(&b, ",\"source\":", e->source);
    add_text_member(&b, ",\"stream\":", e->stream);
    tl__buf_add_str(&b, ",\"version\":");
    if (e->stream != NULL)
        tl__buf_add_i64(&b, e->version);
    else
        tl__json_add_text(&b, NULL);
    add_text_member(&b, ",\"key\":", e->key);
    add_text_member(&b, ",\"tenant_id\":", e->tenant_id);
    add_json_member(&b, ",\"data\":", e->data, e->data_len);
    add_json_member(&b, ",\"metadata\":", e->metadata, e->metadata_len);
    add_time_member(&b, ",\"expires_at\":", e->expires_at_us);
    add_time_member(&b, ",\"created_at\":", e->created_at_us);
    tl__buf_add_char(&b, '}');
    return tl__buf_take(&b, ret_len);
}
