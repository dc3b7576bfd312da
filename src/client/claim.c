/* claim.c: pull consumers: claim, ack, nack, extend, release. The worker has its own way. */
#include "internal.h"

#include "json.h"
#include "str.h"

#include <string.h>

#define DEFAULT_LEASE_US 30000000u
#define ERROR_LIMIT_BYTES 2000

static const char claim_sql[] =
    "SELECT token, attempt, " TL__EVENT_LIST
    " FROM @extschema@.claim(subscription => $1, max_events => $2, lease => $3)";
static const char ack_sql[] = "SELECT @extschema@.ack(token => $1, upto => $2, failures => $3)";
static const char extend_sql[] = "SELECT @extschema@.extend(token => $1, lease => $2)";
static const char release_sql[] = "SELECT @extschema@.release(token => $1)";

tl_status tl_claim(tl_client *c, const char *subscription, const tl_claim_options *from,
                   tl_batch **ret)
{
    struct tl__params params = TL_PARAMS_INIT;
    tl_claim_options opts;
    PGresult *res = NULL;
    tl_batch *batch;
    tl_status status;

    tl__error_clear(&c->error);
    status = tl__options_load(&c->error, "tl_claim", &opts, sizeof opts, from);
    if (status != TL_OK)
        return status;
    if (subscription == NULL)
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "subscription is NULL");
    if (opts.max_events > TL_MAX_CLAIM)
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "max_events is not 1 to %d",
                             TL_MAX_CLAIM);
    status = tl__call_begin(c);
    if (status != TL_OK)
        return status;
    tl__param_text(&params, subscription);
    tl__param_i32(&params, opts.max_events != 0 ? (int32_t)opts.max_events : 100);
    tl__param_interval(&params, opts.lease_us != 0 ? opts.lease_us : DEFAULT_LEASE_US);
    status = tl__call(c, TL__WRITES, NULL, claim_sql, &params, &res);
    if (status != TL_OK)
        return status;
    if (PQntuples(res) == 0) {
        PQclear(res);
        *ret = NULL;
        return TL_NOTHING;
    }
    batch = tl__batch_new(res, 2, 0, 1);
    if (batch == NULL)
        return tl__error_nomem(&c->error);
    *ret = batch;
    return TL_OK;
}

/* Begin a call about a lease: its token is the first parameter. */
static tl_status lease_call_begin(tl_client *c, const char *token, struct tl__params *params)
{
    uint8_t uuid[16];

    tl__error_clear(&c->error);
    if (token == NULL || !tl__uuid_parse(token, uuid))
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "token is not a uuid");
    tl__param_uuid(params, uuid);
    return tl__call_begin(c);
}

static tl_status settle(tl_client *c, const struct tl__params *params, int64_t *ret_settled)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    tl_status status = tl__call(c, TL__WRITES, NULL, ack_sql, params, &res);

    if (status == TL_OK && ret_settled != NULL)
        *ret_settled = tl__cell_i64(res, 0, 0);
    return status;
}

tl_status tl_ack(tl_client *c, const char *token, int64_t upto, int64_t *ret_settled)
{
    struct tl__params params = TL_PARAMS_INIT;
    tl_status status = lease_call_begin(c, token, &params);

    if (status != TL_OK)
        return status;
    if (upto == 0)
        tl__param_null(&params);
    else
        tl__param_i64(&params, upto);
    tl__param_null(&params);
    return settle(c, &params, ret_settled);
}

tl_status tl_nack(tl_client *c, const char *token, int64_t position, const char *error,
                  int64_t *ret_settled)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf json = TL_BUF_INIT;
    struct tl__params params = TL_PARAMS_INIT;
    char text[ERROR_LIMIT_BYTES + 1];
    tl_status status = lease_call_begin(c, token, &params);

    if (status != TL_OK)
        return status;
    tl__str_copy(text, sizeof text, error != NULL ? error : "");
    tl__utf8_clean(text);
    tl__buf_add_str(&json, "\1["); /* binary jsonb: version 1, then the text */
    tl__buf_add_char(&json, '{');
    tl__json_add_name(&json, "position");
    tl__buf_add_i64(&json, position);
    tl__json_add_name(&json, "error");
    tl__json_add_text(&json, text);
    tl__json_add_name(&json, "verdict");
    tl__json_add_text(&json, "retry");
    tl__buf_add_str(&json, "}]");
    if (json.is_failed)
        return tl__error_nomem(&c->error);
    tl__param_i64(&params, position);
    tl__param_bytes(&params, json.data, json.len);
    return settle(c, &params, ret_settled);
}

tl_status tl_extend(tl_client *c, const char *token, uint64_t lease_us)
{
    struct tl__params params = TL_PARAMS_INIT;
    tl_status status = lease_call_begin(c, token, &params);

    if (status != TL_OK)
        return status;
    tl__param_interval(&params, lease_us != 0 ? lease_us : DEFAULT_LEASE_US);
    return tl__call(c, TL__WRITES, NULL, extend_sql, &params, NULL);
}

tl_status tl_release(tl_client *c, const char *token)
{
    struct tl__params params = TL_PARAMS_INIT;
    tl_status status = lease_call_begin(c, token, &params);

    if (status != TL_OK)
        return status;
    return tl__call(c, TL__WRITES, NULL, release_sql, &params, NULL);
}
