/* subscribe.c: durable subscriptions: tl_subscribe and tl_unsubscribe. */
#include "publish.h"

#include "clock.h"
#include "str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HOUR_US 3600000000u
#define SECOND_US 1000000u

static const char subscribe_sql[] =
    "SELECT @extschema@.subscribe(name => $1, pattern => $2, topic => $3, tenant_id => $4, "
    "filter => $5, filter_path => $6, target => $7, priority => $8, ordering => $9, "
    "start_at => $10, max_attempts => $11, retry_delay => $12, retry_cap => $13)";

static const char unsubscribe_sql[] = "SELECT @extschema@.unsubscribe($1)";

static tl_status name_check(tl_client *c, const char *name)
{
    size_t len = name == NULL ? 0 : strlen(name);

    if (len < 1 || len > TL_MAX_NAME_BYTES)
        return tl__error_set(&c->error, TL_E_INVALID, NULL,
                             "name of the subscription is not 1 to %d bytes", TL_MAX_NAME_BYTES);
    if (!tl__utf8_is_valid(name, len))
        return tl__error_set(&c->error, TL_E_INVALID, NULL,
                             "name of the subscription is not valid UTF-8");
    return TL_OK;
}

static tl_status opts_load(tl_client *c, const char *pattern, tl_subscribe_options *opts,
                           const tl_subscribe_options *from)
{
    struct tl_error *e = &c->error;
    const char *why = "";
    tl_status status = tl__options_load(e, "tl_subscribe", opts, sizeof *opts, from);

    if (status == TL_OK)
        status = tl__topic_load(e, opts->topic, &opts->topic);
    if (status != TL_OK)
        return status;
    if (tl_pattern_check(pattern, &why) != TL_OK)
        return tl__error_set(e, TL_E_INVALID, NULL, "pattern %s", why);
    if (opts->priority > 10)
        return tl__error_set(e, TL_E_INVALID, NULL, "priority is not 1 to 10");
    if ((unsigned int)opts->ordering > TL_ORDERING_TOTAL)
        return tl__error_set(e, TL_E_INVALID, NULL, "ordering is not a tl_ordering");
    if ((unsigned int)opts->start > TL_START_TIME)
        return tl__error_set(e, TL_E_INVALID, NULL, "start is not a tl_start");
    if (opts->start == TL_START_POSITION && opts->start_value < 0)
        return tl__error_set(e, TL_E_INVALID, NULL, "start_value is negative");
    if (opts->max_attempts > INT32_MAX)
        return tl__error_set(e, TL_E_INVALID, NULL, "max_attempts is too large");
    if (opts->priority == 0)
        opts->priority = 5;
    if (opts->max_attempts == 0)
        opts->max_attempts = 10;
    if (opts->retry_delay_us == 0)
        opts->retry_delay_us = SECOND_US;
    if (opts->retry_cap_us == 0)
        opts->retry_cap_us = opts->retry_delay_us > HOUR_US ? opts->retry_delay_us : HOUR_US;
    return TL_OK;
}

static const char *start_text(const tl_subscribe_options *opts, char text[TL_TIME_TEXT_SIZE])
{
    switch (opts->start) {
    case TL_START_BEGINNING:
        return "beginning";
    case TL_START_POSITION:
        (void)snprintf(text, TL_TIME_TEXT_SIZE, "%" PRId64, opts->start_value);
        return text;
    case TL_START_TIME:
        tl__time_format(opts->start_value, text);
        return text;
    default:
        return "end";
    }
}

/* Binary jsonb and jsonpath alike: version 1, then the text. NULL stays NULL. */
static void add_versioned(struct tl__params *params, struct tl__buf *buf, const char *text)
{
    if (text == NULL) {
        tl__param_null(params);
        return;
    }
    tl__buf_add_char(buf, '\1');
    tl__buf_add_str(buf, text);
    tl__param_bytes(params, buf->data, buf->len);
}

tl_status tl_subscribe(tl_client *c, const char *name, const char *pattern,
                       const tl_subscribe_options *from)
{
    static const char *const orderings[] = {"key", "none", "total"};
    TL_CLEANUP(tl__buf_done)
    struct tl__buf filter = TL_BUF_INIT;
    TL_CLEANUP(tl__buf_done)
    struct tl__buf path = TL_BUF_INIT;
    struct tl__params params = TL_PARAMS_INIT;
    char start[TL_TIME_TEXT_SIZE];
    tl_subscribe_options opts;
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = name_check(c, name)) != TL_OK ||
        (status = opts_load(c, pattern, &opts, from)) != TL_OK ||
        (status = tl__call_begin(c)) != TL_OK)
        return status;
    tl__param_text(&params, name);
    tl__param_text(&params, pattern);
    tl__param_text(&params, opts.topic);
    tl__param_text(&params, opts.tenant_id);
    add_versioned(&params, &filter, opts.filter);
    add_versioned(&params, &path, opts.filter_path);
    if (filter.is_failed || path.is_failed)
        return tl__error_nomem(&c->error);
    tl__param_text(&params, opts.target);
    tl__param_i32(&params, (int32_t)opts.priority);
    tl__param_text(&params, orderings[opts.ordering]);
    tl__param_text(&params, start_text(&opts, start));
    tl__param_i32(&params, (int32_t)opts.max_attempts);
    tl__param_interval(&params, opts.retry_delay_us);
    tl__param_interval(&params, opts.retry_cap_us);
    status = tl__call(c, TL__WRITES, NULL, subscribe_sql, &params, NULL);
    if (status != TL_OK && strcmp(c->error.sqlstate, "22P02") == 0)
        return tl__error_set(&c->error, TL_E_INVALID, "22P02", "filter is not valid JSON");
    if (status != TL_OK && strcmp(c->error.sqlstate, "42601") == 0 && opts.filter_path != NULL)
        return tl__error_set(&c->error, TL_E_INVALID, "42601", "filter_path is not valid jsonpath");
    return status;
}

tl_status tl_unsubscribe(tl_client *c, const char *name)
{
    struct tl__params params = TL_PARAMS_INIT;
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = name_check(c, name)) != TL_OK || (status = tl__call_begin(c)) != TL_OK)
        return status;
    tl__param_text(&params, name);
    return tl__call(c, TL__WRITES, NULL, unsubscribe_sql, &params, NULL);
}
