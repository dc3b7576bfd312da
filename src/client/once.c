/* once.c: tl_once and tl_tx_once: the inbox of handlers with effects in this database. */
#include "worker.h"

#include "clock.h"
#include "str.h"

#include <string.h>

static const char once_sql[] = "SELECT @extschema@.once($1, $2)";

/* On a connection that a call was begun on. */
static tl_status ask(tl_client *c, const char *subscription, const char *event_id, bool *ret)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    struct tl__params params = TL_PARAMS_INIT;
    uint8_t uuid[16];
    size_t len = subscription == NULL ? 0 : strlen(subscription);
    tl_status status;

    if (len < 1 || len > TL_MAX_NAME_BYTES || !tl__utf8_is_valid(subscription, len))
        return tl__error_set(&c->error, TL_E_INVALID, NULL,
                             "subscription is not 1 to %d bytes of UTF-8", TL_MAX_NAME_BYTES);
    if (event_id == NULL || !tl__uuid_parse(event_id, uuid))
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "event_id is not a uuid");
    tl__param_text(&params, subscription);
    tl__param_uuid(&params, uuid);
    status = tl__call(c, TL__WRITES, NULL, once_sql, &params, &res);
    if (status == TL_OK)
        *ret = tl__cell_bool(res, 0, 0);
    return status;
}

tl_status tl_once(tl_client *c, const char *subscription, const char *event_id, bool *ret)
{
    tl_status status = tl__call_begin(c);

    return status == TL_OK ? ask(c, subscription, event_id, ret) : status;
}

tl_status tl_tx_once(tl_tx *tx, const char *subscription, const char *event_id, bool *ret)
{
    struct tl_client *c = &tx->client;

    if (c->conn == NULL)
        return tl__error_set(&c->error, TL_E_CONNECTION, NULL,
                             "the connection of the handler's transaction is lost");
    tl__error_clear(&c->error);
    c->deadline_us = tl__deadline_us(tl__clock_us(), c->settings.timeout_us);
    (void)PQsetnonblocking(c->conn, 1);
    return ask(c, subscription, event_id, ret);
}
