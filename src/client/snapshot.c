/* snapshot.c: the snapshots of streams: save, get, delete. When one is taken is the repository's matter. */
#include "append.h"

#include <string.h>

static const char save_sql[] =
    "SELECT @extschema@.snapshot_save(stream => $1, schema_version => $2, topic => $3, "
    "tenant_id => $4, version => $5, state => $6)";
static const char get_sql[] =
    "SELECT s.version, s.state::text, s.created_at FROM @extschema@.snapshot_get(stream => $1, "
    "schema_version => $2, topic => $3, tenant_id => $4) s WHERE s.version IS NOT NULL";
static const char delete_sql[] =
    "SELECT @extschema@.snapshot_delete(stream => $1, below_schema_version => $2, topic => $3)";

struct tl_snapshot {
    PGresult *res;
};

/* Begin a call: stream, schema version, topic, tenant are its first parameters. */
static tl_status begin(tl_client *c, const char *call, const char *stream,
                       const tl_snapshot_options *from, struct tl__params *params)
{
    tl_snapshot_options opts;
    const char *topic;
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = tl__options_load(&c->error, call, &opts, sizeof opts, from)) != TL_OK ||
        (status = tl__stream_check(&c->error, stream)) != TL_OK ||
        (status = tl__store_topic_load(&c->error, opts.topic, &topic)) != TL_OK)
        return status;
    if (opts.schema_version > INT32_MAX)
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "schema_version is too large");
    if ((status = tl__call_begin(c)) != TL_OK)
        return status;
    tl__param_text(params, stream);
    tl__param_i32(params, opts.schema_version != 0 ? (int32_t)opts.schema_version : 1);
    tl__param_text(params, topic);
    tl__param_text(params, opts.tenant_id);
    return TL_OK;
}

tl_status tl_snapshot_save(tl_client *c, const char *stream, int64_t version, const char *state,
                           size_t state_len, const tl_snapshot_options *opts)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf json = TL_BUF_INIT;
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    struct tl__params params = TL_PARAMS_INIT;
    tl_status status;

    tl__error_clear(&c->error);
    if (state == NULL)
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "state is NULL");
    if (state_len == 0)
        state_len = strlen(state);
    status = tl__json_check(&c->error, "state", state, state_len);
    if (status == TL_OK)
        status = begin(c, "tl_snapshot_save", stream, opts, &params);
    if (status != TL_OK)
        return status;
    tl__buf_add_char(&json, '\1'); /* binary jsonb: version 1, then the text */
    tl__buf_add(&json, state, state_len);
    if (json.is_failed)
        return tl__error_nomem(&c->error);
    tl__param_i64(&params, version);
    tl__param_bytes(&params, json.data, json.len);
    status = tl__call(c, TL__WRITES, NULL, save_sql, &params, &res);
    status = tl__json_named(&c->error, "state", status);
    return status == TL_OK && !tl__cell_bool(res, 0, 0) ? TL_NOTHING : status;
}

tl_status tl_snapshot_get(tl_client *c, const char *stream, const tl_snapshot_options *opts,
                          tl_snapshot **ret)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    struct tl__params params = TL_PARAMS_INIT;
    struct tl_snapshot *s;
    tl_status status = begin(c, "tl_snapshot_get", stream, opts, &params);

    if (status == TL_OK)
        status = tl__call(c, TL__READS, NULL, get_sql, &params, &res);
    if (status != TL_OK)
        return status;
    if (PQntuples(res) == 0)
        return tl__error_set(&c->error, TL_E_NOTFOUND, NULL, "stream \"%s\" has no snapshot",
                             stream);
    s = calloc(1, sizeof *s);
    if (s == NULL)
        return tl__error_nomem(&c->error);
    s->res = TL_STEAL(res);
    *ret = s;
    return TL_OK;
}

tl_status tl_snapshot_delete(tl_client *c, const char *stream_or_category,
                             uint32_t below_schema_version, const char *topic, int64_t *ret)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    struct tl__params params = TL_PARAMS_INIT;
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = tl__stream_check(&c->error, stream_or_category)) != TL_OK ||
        (status = tl__store_topic_load(&c->error, topic, &topic)) != TL_OK)
        return status;
    if (below_schema_version > INT32_MAX)
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "schema_version is too large");
    if ((status = tl__call_begin(c)) != TL_OK)
        return status;
    tl__param_text(&params, stream_or_category);
    if (below_schema_version != 0)
        tl__param_i32(&params, (int32_t)below_schema_version);
    else
        tl__param_null(&params);
    tl__param_text(&params, topic);
    status = tl__call(c, TL__WRITES, NULL, delete_sql, &params, &res);
    if (status == TL_OK && ret != NULL)
        *ret = tl__cell_i64(res, 0, 0);
    return status;
}

int64_t tl_snapshot_version(const tl_snapshot *s)
{
    return tl__cell_i64(s->res, 0, 0);
}

const char *tl_snapshot_state(const tl_snapshot *s, size_t *ret_len)
{
    if (ret_len != NULL)
        *ret_len = (size_t)PQgetlength(s->res, 0, 1);
    return PQgetvalue(s->res, 0, 1);
}

int64_t tl_snapshot_created_at_us(const tl_snapshot *s)
{
    return tl__cell_time(s->res, 0, 2);
}

tl_snapshot *tl_snapshot_free(tl_snapshot *s)
{
    if (s != NULL)
        PQclear(s->res);
    free(s);
    return NULL;
}
