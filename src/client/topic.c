/* topic.c: tl_topic_create. */
#include "publish.h"

static const char create_sql[] =
    "SELECT @extschema@.create_topic(name => $1, durability => $2, rotation => $3, "
    "retention => $4, max_event_bytes => $5)";
static const char create_streams_sql[] =
    "SELECT @extschema@.create_topic(name => $1, durability => $2, rotation => $3, "
    "retention => $4, max_event_bytes => $5, dedup_window => NULL, streams => true)";

tl_status tl_topic_create(tl_client *c, const char *topic, const tl_topic_options *from)
{
    struct tl__params params = TL_PARAMS_INIT;
    tl_topic_options opts;
    tl_status status;

    tl__error_clear(&c->error);
    status = tl__options_load(&c->error, "tl_topic_create", &opts, sizeof opts, from);
    if (status != TL_OK)
        return status;
    if (topic == NULL)
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "topic is NULL");
    if (opts.max_event_bytes > INT32_MAX)
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "max_event_bytes is too large");
    if ((status = tl__topic_check(&c->error, topic)) != TL_OK ||
        (status = tl__call_begin(c)) != TL_OK)
        return status;
    tl__param_text(&params, topic);
    tl__param_text(&params, opts.durability != NULL ? opts.durability : "logged");
    tl__param_text(&params, opts.rotation != NULL ? opts.rotation : "none");
    tl__param_interval(&params, opts.retention_us);
    tl__param_i32(&params,
                  opts.max_event_bytes != 0 ? (int32_t)opts.max_event_bytes : TL_MAX_EVENT_BYTES);
    return tl__call(c, TL__WRITES, NULL, opts.streams ? create_streams_sql : create_sql, &params,
                    NULL);
}
