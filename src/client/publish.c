/*
 * publish.c: tl_publish, and the checks, parameters and errors of all ways to publish. The client
 * checks shapes and lengths; whether JSON is valid and small enough only the server decides.
 */
#include "publish.h"

#include "str.h"

#include <string.h>

/* Larger than any topic's max_event_bytes can be: not worth sending. */
#define MAX_JSON_BYTES 268435456

/* A cast costs the server less than a parameter of the domain's type, which checks its domain when it is read; a
 * returned column costs about as much as a check, and the position is in the id that next_id() makes. */
#define INSERT(columns, values, tail)                                                              \
    "INSERT INTO @extschema@.topic_@topic@ (type, data" columns                                    \
    ") VALUES ($1::text, $2::jsonb" values ")" tail

/* Without and with a receipt. */
#define INSERTS(columns, values)                                                                   \
    {                                                                                              \
        INSERT(columns, values, ""), INSERT(columns, values, " RETURNING id")                      \
    }

/* What most events have, by whether key and tenant_id are there: a column costs as much when it is NULL. */
static const char *const short_sql[2][2][2] = {
    {INSERTS("", ""), INSERTS(", tenant_id", ", $3::text")},
    {INSERTS(", key", ", $3::text"), INSERTS(", key, tenant_id", ", $3::text, $4::text")}};

static const char *const insert_sql[2] =
    INSERTS(", key, tenant_id, source, metadata, expires_at",
            ", $3::text, $4::text, $5::text, $6::jsonb, $7::timestamptz");

static const char publish_sql[] =
    "SELECT p.\"position\", p.id, p.deduplicated FROM @extschema@.publish(type => $1, "
    "data => $2, key => $3, tenant_id => $4, source => $5, metadata => $6, expires_at => $7, "
    "event_id => $8, topic => $9) p";

static const char later_sql[] =
    "SELECT p.\"position\", p.id, p.deduplicated FROM @extschema@.publish(type => $1, "
    "data => $2, key => $3, tenant_id => $4, source => $5, metadata => $6, expires_at => $7, "
    "event_id => $8, topic => $9, run_at => $10, delay => $11, ttl => $12) p";

/* ---------------------------------------------------------------------------------- checks -- */

static tl_status text_check(struct tl_error *e, const char *field, const char *text)
{
    size_t len;

    if (text == NULL)
        return TL_OK;
    len = strlen(text);
    if (len < 1 || len > TL_MAX_NAME_BYTES)
        return tl__error_set(e, TL_E_INVALID, NULL, "%s is not 1 to %d bytes", field,
                             TL_MAX_NAME_BYTES);
    if (!tl__utf8_is_valid(text, len))
        return tl__error_set(e, TL_E_INVALID, NULL, "%s is not valid UTF-8", field);
    return TL_OK;
}

tl_status tl__json_check(struct tl_error *e, const char *field, const char *text, size_t len)
{
    if (len > MAX_JSON_BYTES)
        return tl__error_set(e, TL_E_LIMIT, NULL, "%s has more than %d bytes", field,
                             MAX_JSON_BYTES);
    if (memchr(text, '\0', len) != NULL)
        return tl__error_set(e, TL_E_INVALID, NULL, "%s contains a NUL byte", field);
    if (!tl__utf8_is_valid(text, len))
        return tl__error_set(e, TL_E_INVALID, NULL, "%s is not valid UTF-8", field);
    return TL_OK;
}

tl_status tl__json_named(struct tl_error *e, const char *field, tl_status status)
{
    if (status == TL_OK || strcmp(e->sqlstate, "22P02") != 0)
        return status;
    return tl__error_set(e, TL_E_INVALID, "22P02", "%s is not valid JSON", field);
}

tl_status tl__element_load(struct tl_error *e, const tl_new_event *from, struct tl__element *ret)
{
    tl_new_event *event = &ret->event;
    const char *why = "";
    tl_status status;

    if (from == NULL)
        return tl__error_set(e, TL_E_INVALID, NULL, "event is NULL");
    status = tl__options_load(e, "event", event, sizeof *event, from);
    if (status != TL_OK)
        return status;
    if (tl_type_check(event->type, &why) != TL_OK) {
        tl__error_set(e, TL_E_INVALID, NULL, "type %s", why);
        tl__error_set_hint(e,
                           "a type is 1 to %d bytes of segments separated by dots, such as "
                           "order.created",
                           TL_MAX_TYPE_BYTES);
        return TL_E_INVALID;
    }
    if (event->data == NULL)
        event->data = "null";
    if (event->data_len == 0 || from->data == NULL)
        event->data_len = strlen(event->data);
    if (event->id != NULL && !tl__uuid_parse(event->id, ret->uuid))
        return tl__error_set(e, TL_E_INVALID, NULL, "id is not a uuid");
    if ((status = text_check(e, "type", event->type)) != TL_OK ||
        (status = text_check(e, "key", event->key)) != TL_OK ||
        (status = text_check(e, "source", event->source)) != TL_OK ||
        (status = text_check(e, "tenant_id", event->tenant_id)) != TL_OK ||
        (status = tl__json_check(e, "data", event->data, event->data_len)) != TL_OK)
        return status;
    if (event->metadata == NULL)
        return TL_OK;
    return tl__json_check(e, "metadata", event->metadata, strlen(event->metadata));
}

tl_status tl__topic_load(struct tl_error *e, const char *topic, const char **ret)
{
    *ret = topic != NULL ? topic : "bus";
    return tl__topic_check(e, *ret);
}

/* ------------------------------------------------------------------------------ parameters -- */

size_t tl__element_bytes(const struct tl__element *el)
{
    return el->event.data_len + (el->event.metadata != NULL ? strlen(el->event.metadata) : 0);
}

bool tl__element_is_timed(const struct tl__element *el)
{
    return el->event.run_at_us != 0 || el->event.delay_us != 0 || el->event.ttl_us != 0;
}

bool tl__element_is_by_function(const struct tl__element *el)
{
    return el->event.id != NULL || tl__element_is_timed(el);
}

static bool is_short(const struct tl__element *el)
{
    const tl_new_event *event = &el->event;

    return !tl__element_is_by_function(el) && event->source == NULL && event->metadata == NULL &&
           event->expires_at_us == 0;
}

const char *tl__publish_template(const struct tl__element *el, bool has_receipt)
{
    if (tl__element_is_timed(el))
        return later_sql;
    if (el->event.id != NULL)
        return publish_sql;
    if (is_short(el))
        return short_sql[el->event.key != NULL][el->event.tenant_id != NULL][has_receipt];
    return insert_sql[has_receipt];
}

/* Binary jsonb: version 1, then the text. */
static void add_jsonb(struct tl__buf *json, const char *text, size_t len)
{
    tl__buf_add_char(json, '\1');
    tl__buf_add(json, text, len);
}

tl_status tl__publish_params(struct tl_error *e, const struct tl__element *el, const char *topic,
                             struct tl__buf *json, struct tl__params *ret)
{
    const tl_new_event *event = &el->event;
    size_t metadata_len = event->metadata != NULL ? strlen(event->metadata) : 0;
    size_t data_end;

    /* Room for all of it first: the parameters point into it. */
    if (!tl__buf_reserve(json, event->data_len + metadata_len + 2))
        return tl__error_nomem(e);
    add_jsonb(json, event->data, event->data_len);
    data_end = json->len;
    if (event->metadata != NULL)
        add_jsonb(json, event->metadata, metadata_len);

    tl__param_text(ret, event->type);
    tl__param_bytes(ret, json->data, data_end);
    if (event->key != NULL || !is_short(el))
        tl__param_text(ret, event->key);
    if (event->tenant_id != NULL || !is_short(el))
        tl__param_text(ret, event->tenant_id);
    if (is_short(el))
        return TL_OK;
    tl__param_text(ret, event->source);
    if (event->metadata != NULL)
        tl__param_bytes(ret, json->data + data_end, json->len - data_end);
    else
        tl__param_null(ret);
    tl__param_time(ret, event->expires_at_us);
    if (!tl__element_is_by_function(el))
        return TL_OK;
    if (event->id != NULL)
        tl__param_uuid(ret, el->uuid);
    else
        tl__param_null(ret);
    tl__param_text(ret, topic);
    if (!tl__element_is_timed(el))
        return TL_OK;
    tl__param_time(ret, event->run_at_us);
    tl__param_interval(ret, event->delay_us);
    tl__param_interval(ret, event->ttl_us);
    return TL_OK;
}

/* Of an id that next_id() made: its last 62 bits without the last 14. */
static int64_t position_in_id(const PGresult *res, int row)
{
    const uint8_t *id = (const uint8_t *)PQgetvalue(res, row, 0);
    uint64_t low = 0;

    if (PQgetlength(res, row, 0) != 16)
        return 0;
    for (int i = 8; i < 16; i++)
        low = low << 8 | id[i];
    return (int64_t)((low << 2) >> 16);
}

void tl__receipt_from_row(const PGresult *res, int row, tl_receipt *ret)
{
    bool is_id_alone = PQnfields(res) == 1;

    ret->position = is_id_alone ? position_in_id(res, row) : tl__cell_i64(res, row, 0);
    (void)tl__cell_uuid(res, row, !is_id_alone, ret->id);
    ret->deduplicated = PQnfields(res) > 2 && tl__cell_bool(res, row, 2);
}

/* ---------------------------------------------------------------------------------- errors -- */

tl_status tl__publish_explain(tl_client *c, const char *topic, tl_status status)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    struct tl__params params = TL_PARAMS_INIT;
    struct tl_error first = c->error;
    tl_status second;

    if (strcmp(first.sqlstate, "22P02") == 0)
        return tl__json_named(&c->error, "data or metadata", status);
    if (strcmp(first.sqlstate, "42P01") != 0 && strcmp(first.sqlstate, "23514") != 0)
        return status;
    if (status != TL_E_SCHEMA && status != TL_E_LIMIT)
        return status;
    tl__param_text(&params, topic);
    second =
        tl__call(c, TL__READS, NULL,
                 "SELECT max_event_bytes FROM @extschema@.topics WHERE name = $1", &params, &res);
    if (second == TL_E_SCHEMA) /* not even the register of topics is there */
        return second;
    if (status == TL_E_LIMIT) {
        c->error = first;
        if (second != TL_OK || PQntuples(res) != 1)
            return status;
        tl__error_set(&c->error, status, first.sqlstate,
                      "data is larger than the limit of topic \"%s\", %lld bytes", topic,
                      (long long)tl__cell_i64(res, 0, 0));
        tl__error_set_hint(&c->error, "send less, or raise the topic's max_event_bytes");
        return status;
    }
    tl__error_set(&c->error, TL_E_NOTFOUND, first.sqlstate, "topic \"%s\" does not exist", topic);
    tl__error_set_hint(&c->error, "make it with create_topic() or tl_topic_create()");
    return TL_E_NOTFOUND;
}

/* ----------------------------------------------------------------------------------- calls -- */

tl_status tl_publish(tl_client *c, const char *topic, const tl_new_event *event, tl_receipt *ret)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf json = TL_BUF_INIT;
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    struct tl__params params = TL_PARAMS_INIT;
    struct tl__element el;
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = tl__topic_load(&c->error, topic, &topic)) != TL_OK ||
        (status = tl__element_load(&c->error, event, &el)) != TL_OK ||
        (status = tl__publish_params(&c->error, &el, topic, &json, &params)) != TL_OK ||
        (status = tl__call_begin(c)) != TL_OK)
        return status;
    status = tl__call(c, TL__WRITES, tl__element_is_by_function(&el) ? NULL : topic,
                      tl__publish_template(&el, ret != NULL), &params, &res);
    if (status != TL_OK)
        return tl__publish_explain(c, topic, status);
    if (ret != NULL)
        tl__receipt_from_row(res, 0, ret);
    return TL_OK;
}
