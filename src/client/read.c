/* read.c: tl_read and tl_horizon: the log by position, never past the safe horizon. */
#include "publish.h"

static const char horizon_sql[] = "SELECT @extschema@.horizon($1)";

static const char read_sql[] = "SELECT " TL__EVENT_LIST " FROM @extschema@.read(topic => $1, "
                               "after => $2, max_events => $3, pattern => $4, tenant => $5)";

static tl_status get_horizon(tl_client *c, const char *topic, int64_t *ret)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    struct tl__params params = TL_PARAMS_INIT;
    tl_status status;

    tl__param_text(&params, topic);
    status = tl__call(c, TL__READS, NULL, horizon_sql, &params, &res);
    if (status == TL_OK)
        *ret = tl__cell_i64(res, 0, 0);
    return status;
}

tl_status tl_horizon(tl_client *c, const char *topic, int64_t *ret)
{
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = tl__topic_load(&c->error, topic, &topic)) != TL_OK ||
        (status = tl__call_begin(c)) != TL_OK)
        return status;
    return get_horizon(c, topic, ret);
}

static tl_status read_load(tl_client *c, tl_read_options *opts, const tl_read_options *from)
{
    const char *why = "";
    tl_status status = tl__options_load(&c->error, "tl_read", opts, sizeof *opts, from);

    if (status == TL_OK)
        status = tl__topic_load(&c->error, opts->topic, &opts->topic);
    if (status != TL_OK)
        return status;
    if (opts->pattern == NULL)
        opts->pattern = "**";
    if (opts->limit == 0)
        opts->limit = 100;
    if (tl_pattern_check(opts->pattern, &why) != TL_OK)
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "pattern %s", why);
    if (opts->limit > TL_MAX_CLAIM)
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "limit is not 1 to %d", TL_MAX_CLAIM);
    if (opts->after < 0)
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "after is negative");
    return TL_OK;
}

tl_status tl_read(tl_client *c, const tl_read_options *from, tl_batch **ret)
{
    struct tl__params params = TL_PARAMS_INIT;
    tl_read_options opts;
    PGresult *res = NULL;
    tl_batch *batch;
    int64_t horizon;
    tl_status status;

    tl__error_clear(&c->error);
    /* The horizon of before: what is below it and was not returned will never be. */
    if ((status = read_load(c, &opts, from)) != TL_OK || (status = tl__call_begin(c)) != TL_OK ||
        (status = get_horizon(c, opts.topic, &horizon)) != TL_OK)
        return status;
    tl__param_text(&params, opts.topic);
    tl__param_i64(&params, opts.after);
    tl__param_i32(&params, (int32_t)opts.limit);
    tl__param_text(&params, opts.pattern);
    tl__param_text(&params, opts.tenant_id);
    status = tl__call(c, TL__READS, NULL, read_sql, &params, &res);
    if (status != TL_OK)
        return status;
    batch = tl__batch_new(res, 0, -1, -1);
    if (batch == NULL)
        return tl__error_nomem(&c->error);
    if (batch->upto < opts.after)
        batch->upto = opts.after;
    if (batch->count < opts.limit && batch->upto < horizon)
        batch->upto = horizon;
    *ret = batch;
    return batch->count > 0 ? TL_OK : TL_NOTHING;
}
