/* delayed.c: tl_cancel and tl_reschedule: the fate of delayed events until they are due. */
#include "internal.h"

#include "uuid.h"

static const char cancel_sql[] = "SELECT @extschema@.cancel($1)";
static const char reschedule_sql[] = "SELECT @extschema@.reschedule($1, $2)";

static tl_status id_load(tl_client *c, const char *id, struct tl__params *params)
{
    uint8_t uuid[16];

    if (id == NULL || !tl__uuid_parse(id, uuid))
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "id is not a uuid");
    tl__param_uuid(params, uuid);
    return TL_OK;
}

tl_status tl_cancel(tl_client *c, const char *id)
{
    struct tl__params params = TL_PARAMS_INIT;
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = id_load(c, id, &params)) != TL_OK || (status = tl__call_begin(c)) != TL_OK)
        return status;
    return tl__call(c, TL__WRITES, NULL, cancel_sql, &params, NULL);
}

tl_status tl_reschedule(tl_client *c, const char *id, int64_t run_at_us)
{
    struct tl__params params = TL_PARAMS_INIT;
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = id_load(c, id, &params)) != TL_OK)
        return status;
    if (run_at_us == 0)
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "run_at is 0");
    if ((status = tl__call_begin(c)) != TL_OK)
        return status;
    tl__param_time(&params, run_at_us);
    return tl__call(c, TL__WRITES, NULL, reschedule_sql, &params, NULL);
}
