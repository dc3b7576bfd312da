/* stream.c: what is known of streams, deleting them, redacting an event. The rules are in SQL. */
#include "append.h"

#include <string.h>

static const char version_sql[] = "SELECT @extschema@.stream_version($1, $2, $3)";
static const char exists_sql[] = "SELECT @extschema@.stream_exists($1, $2, $3)";

#define STREAM_LIST                                                                                \
    "s.stream::text, s.version, s.first_version, s.state::text, s.tenant_id::text, s.max_count, "  \
    "s.max_age, s.metadata::text, s.created_at, s.updated_at"
enum {
    STREAM,
    VERSION,
    FIRST_VERSION,
    STATE,
    TENANT_ID,
    MAX_COUNT,
    MAX_AGE,
    METADATA,
    CREATED_AT,
    UPDATED_AT
};
static const char info_sql[] =
    "SELECT " STREAM_LIST " FROM @extschema@.stream_info($1, $2, $3) s WHERE s.stream IS NOT NULL";
static const char list_sql[] =
    "SELECT " STREAM_LIST " FROM @extschema@.list_streams(category => $1, after => $2, "
    "max_streams => $3, topic => $4, tenant_id => $5, include_deleted => $6) s";
static const char delete_sql[] =
    "SELECT @extschema@.delete_stream(stream => $1, expected_version => $2, hard => $3, "
    "reason => $4, topic => $5, tenant_id => $6)";
static const char set_sql[] =
    "SELECT @extschema@.set_stream(stream => $1, expected_version => $2, topic => $3, "
    "tenant_id => $4, max_count => $5, max_age => $6, metadata => $7)";
static const char redact_sql[] = "SELECT @extschema@.redact(event_id => $1, reason => $2, "
                                 "topic => $3, metadata => $4)";

/* Begin a call about one stream: stream, topic, tenant are its first parameters. */
static tl_status stream_call_begin(tl_client *c, const char *call, const char *stream,
                                   const tl_stream_options *from, struct tl__params *params)
{
    tl_stream_options opts;
    const char *topic;
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = tl__options_load(&c->error, call, &opts, sizeof opts, from)) != TL_OK ||
        (status = tl__stream_check(&c->error, stream)) != TL_OK ||
        (status = tl__store_topic_load(&c->error, opts.topic, &topic)) != TL_OK ||
        (status = tl__call_begin(c)) != TL_OK)
        return status;
    tl__param_text(params, stream);
    tl__param_text(params, topic);
    tl__param_text(params, opts.tenant_id);
    return TL_OK;
}

tl_status tl_stream_version(tl_client *c, const char *stream, const tl_stream_options *opts,
                            int64_t *ret)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    struct tl__params params = TL_PARAMS_INIT;
    tl_status status = stream_call_begin(c, "tl_stream_version", stream, opts, &params);

    if (status == TL_OK)
        status = tl__call(c, TL__READS, NULL, version_sql, &params, &res);
    if (status == TL_OK)
        *ret = tl__cell_i64(res, 0, 0);
    return status;
}

tl_status tl_stream_exists(tl_client *c, const char *stream, const tl_stream_options *opts,
                           bool *ret)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    struct tl__params params = TL_PARAMS_INIT;
    tl_status status = stream_call_begin(c, "tl_stream_exists", stream, opts, &params);

    if (status == TL_OK)
        status = tl__call(c, TL__READS, NULL, exists_sql, &params, &res);
    if (status == TL_OK)
        *ret = tl__cell_bool(res, 0, 0);
    return status;
}

/* ----------------------------------------------------------------------------- information -- */

struct tl_streams {
    PGresult *res;
};

/* Takes res, also on failure. */
static tl_status streams_new(struct tl_error *e, PGresult *res, tl_streams **ret)
{
    struct tl_streams *s = calloc(1, sizeof *s);

    if (s == NULL) {
        PQclear(res);
        return tl__error_nomem(e);
    }
    s->res = res;
    *ret = s;
    return TL_OK;
}

tl_status tl_stream_info(tl_client *c, const char *stream, const tl_stream_options *opts,
                         tl_streams **ret)
{
    struct tl__params params = TL_PARAMS_INIT;
    PGresult *res = NULL;
    tl_status status = stream_call_begin(c, "tl_stream_info", stream, opts, &params);

    if (status == TL_OK)
        status = tl__call(c, TL__READS, NULL, info_sql, &params, &res);
    if (status != TL_OK)
        return status;
    if (PQntuples(res) == 0) {
        PQclear(res);
        return tl__error_set(&c->error, TL_E_NOTFOUND, NULL, "stream \"%s\" does not exist",
                             stream);
    }
    return streams_new(&c->error, res, ret);
}

tl_status tl_stream_list(tl_client *c, const tl_stream_list_options *from, tl_streams **ret)
{
    struct tl__params params = TL_PARAMS_INIT;
    tl_stream_list_options opts;
    PGresult *res = NULL;
    const char *topic;
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = tl__options_load(&c->error, "tl_stream_list", &opts, sizeof opts, from)) !=
            TL_OK ||
        (status = tl__store_topic_load(&c->error, opts.topic, &topic)) != TL_OK)
        return status;
    if (opts.limit > 10000)
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "limit is not 1 to 10000");
    if ((status = tl__call_begin(c)) != TL_OK)
        return status;
    tl__param_text(&params, opts.category);
    tl__param_text(&params, opts.after);
    tl__param_i32(&params, opts.limit != 0 ? (int32_t)opts.limit : 100);
    tl__param_text(&params, topic);
    tl__param_text(&params, opts.tenant_id);
    tl__param_bool(&params, opts.include_deleted);
    status = tl__call(c, TL__READS, NULL, list_sql, &params, &res);
    if (status != TL_OK)
        return status;
    if (PQntuples(res) == 0) {
        PQclear(res);
        *ret = NULL;
        return TL_NOTHING;
    }
    return streams_new(&c->error, res, ret);
}

size_t tl_streams_count(const tl_streams *s)
{
    return s == NULL ? 0 : (size_t)PQntuples(s->res);
}

const char *tl_streams_name(const tl_streams *s, size_t i)
{
    return tl__cell_text(s->res, (int)i, STREAM);
}

int64_t tl_streams_version(const tl_streams *s, size_t i)
{
    return tl__cell_i64(s->res, (int)i, VERSION);
}

int64_t tl_streams_first_version(const tl_streams *s, size_t i)
{
    return tl__cell_i64(s->res, (int)i, FIRST_VERSION);
}

const char *tl_streams_state(const tl_streams *s, size_t i)
{
    return tl__cell_text(s->res, (int)i, STATE);
}

const char *tl_streams_tenant_id(const tl_streams *s, size_t i)
{
    return tl__cell_text(s->res, (int)i, TENANT_ID);
}

int64_t tl_streams_max_count(const tl_streams *s, size_t i)
{
    return tl__cell_i64(s->res, (int)i, MAX_COUNT);
}

uint64_t tl_streams_max_age_us(const tl_streams *s, size_t i)
{
    return tl__cell_interval(s->res, (int)i, MAX_AGE);
}

const char *tl_streams_metadata(const tl_streams *s, size_t i)
{
    return tl__cell_text(s->res, (int)i, METADATA);
}

int64_t tl_streams_created_at_us(const tl_streams *s, size_t i)
{
    return tl__cell_time(s->res, (int)i, CREATED_AT);
}

int64_t tl_streams_updated_at_us(const tl_streams *s, size_t i)
{
    return tl__cell_time(s->res, (int)i, UPDATED_AT);
}

tl_streams *tl_streams_free(tl_streams *s)
{
    if (s != NULL)
        PQclear(s->res);
    free(s);
    return NULL;
}

/* --------------------------------------------------------------------------------- deleting -- */

/* A call that says whether it did anything. */
static tl_status call_did(tl_client *c, const char *sql, const struct tl__params *params)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    tl_status status = tl__call(c, TL__WRITES, NULL, sql, params, &res);

    return status == TL_OK && !tl__cell_bool(res, 0, 0) ? TL_NOTHING : status;
}

tl_status tl_stream_delete(tl_client *c, const char *stream, int64_t expected_version,
                           const tl_stream_delete_options *from)
{
    struct tl__params params = TL_PARAMS_INIT;
    tl_stream_delete_options opts;
    const char *topic;
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = tl__options_load(&c->error, "tl_stream_delete", &opts, sizeof opts, from)) !=
            TL_OK ||
        (status = tl__stream_check(&c->error, stream)) != TL_OK ||
        (status = tl__expected_check(&c->error, expected_version)) != TL_OK ||
        (status = tl__store_topic_load(&c->error, opts.topic, &topic)) != TL_OK ||
        (status = tl__call_begin(c)) != TL_OK)
        return status;
    tl__param_text(&params, stream);
    tl__param_expected(&params, expected_version);
    tl__param_bool(&params, opts.hard);
    tl__param_text(&params, opts.reason);
    tl__param_text(&params, topic);
    tl__param_text(&params, opts.tenant_id);
    return call_did(c, delete_sql, &params);
}

tl_status tl_stream_set(tl_client *c, const char *stream, int64_t expected_version,
                        const tl_stream_set_options *from)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf json = TL_BUF_INIT;
    struct tl__params params = TL_PARAMS_INIT;
    tl_stream_set_options opts;
    const char *topic;
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = tl__options_load(&c->error, "tl_stream_set", &opts, sizeof opts, from)) !=
            TL_OK ||
        (status = tl__stream_check(&c->error, stream)) != TL_OK ||
        (status = tl__expected_check(&c->error, expected_version)) != TL_OK ||
        (status = tl__store_topic_load(&c->error, opts.topic, &topic)) != TL_OK)
        return status;
    if (opts.metadata != NULL) {
        status = tl__json_check(&c->error, "metadata", opts.metadata, strlen(opts.metadata));
        if (status != TL_OK)
            return status;
        tl__buf_add_char(&json, '\1'); /* binary jsonb: version 1, then the text */
        tl__buf_add_str(&json, opts.metadata);
        if (json.is_failed)
            return tl__error_nomem(&c->error);
    }
    if ((status = tl__call_begin(c)) != TL_OK)
        return status;
    tl__param_text(&params, stream);
    tl__param_expected(&params, expected_version);
    tl__param_text(&params, topic);
    tl__param_text(&params, opts.tenant_id);
    if (opts.max_count != 0)
        tl__param_i64(&params, opts.max_count);
    else
        tl__param_null(&params);
    tl__param_interval(&params, opts.max_age_us);
    if (opts.metadata != NULL)
        tl__param_bytes(&params, json.data, json.len);
    else
        tl__param_null(&params);
    status = tl__call(c, TL__WRITES, NULL, set_sql, &params, NULL);
    return tl__json_named(&c->error, "metadata", status);
}

tl_status tl_redact(tl_client *c, const char *event_id, const char *reason,
                    const tl_redact_options *from)
{
    struct tl__params params = TL_PARAMS_INIT;
    tl_redact_options opts;
    uint8_t uuid[16];
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = tl__options_load(&c->error, "tl_redact", &opts, sizeof opts, from)) != TL_OK ||
        (opts.topic != NULL && (status = tl__topic_check(&c->error, opts.topic)) != TL_OK))
        return status;
    if (event_id == NULL || !tl__uuid_parse(event_id, uuid))
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "event_id is not a uuid");
    if ((status = tl__call_begin(c)) != TL_OK)
        return status;
    tl__param_uuid(&params, uuid);
    tl__param_text(&params, reason);
    tl__param_text(&params, opts.topic);
    tl__param_bool(&params, !opts.keep_metadata);
    return call_did(c, redact_sql, &params);
}
