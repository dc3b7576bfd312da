/* find.c: events by their ids: tl_find, tl_link. */
#include "append.h"

#include "str.h"

static const char link_sql[] = "SELECT @extschema@.link($1, $2, $3)";
static const char find_sql[] = "SELECT " TL__EVENT_LIST ", topic FROM @extschema@.find($1)";

tl_status tl_find(tl_client *c, const char *id, char ret_topic[TL_MAX_TOPIC_BYTES + 1],
                  tl_batch **ret)
{
    struct tl__params params = TL_PARAMS_INIT;
    PGresult *res = NULL;
    uint8_t uuid[16];
    tl_batch *batch;
    tl_status status;

    tl__error_clear(&c->error);
    if (id == NULL || !tl__uuid_parse(id, uuid))
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "id is not a uuid");
    if ((status = tl__call_begin(c)) != TL_OK)
        return status;
    tl__param_uuid(&params, uuid);
    status = tl__call(c, TL__READS, NULL, find_sql, &params, &res);
    if (status != TL_OK)
        return status;
    if (PQntuples(res) == 0) {
        PQclear(res);
        return tl__error_set(&c->error, TL_E_NOTFOUND, NULL, "no event has this id");
    }
    batch = tl__batch_new(res, 0, -1, -1);
    if (batch == NULL)
        return tl__error_nomem(&c->error);
    if (ret_topic != NULL)
        tl__str_copy(ret_topic, TL_MAX_TOPIC_BYTES + 1,
                     tl__cell_text(batch->res, 0, TL__EVENT_COLUMNS));
    *ret = batch;
    return TL_OK;
}

tl_status tl_link(tl_client *c, const char *name, const char *event_id, const char *tenant_id,
                  int64_t *ret)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    struct tl__params params = TL_PARAMS_INIT;
    uint8_t uuid[16];
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = tl__stream_check(&c->error, name)) != TL_OK)
        return status;
    if (event_id == NULL || !tl__uuid_parse(event_id, uuid))
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "event_id is not a uuid");
    if ((status = tl__call_begin(c)) != TL_OK)
        return status;
    tl__param_text(&params, name);
    tl__param_uuid(&params, uuid);
    tl__param_text(&params, tenant_id);
    status = tl__call(c, TL__WRITES, NULL, link_sql, &params, &res);
    if (status == TL_OK && ret != NULL)
        *ret = tl__cell_i64(res, 0, 0);
    return status;
}
