/* subscribe.c: durable subscriptions: tl_subscribe. What is done to them later: operate.c. */
#include "subscribe.h"

#include "publish.h"
#include "str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What the server allows as well; here so that the text of them stays small. */
#define MAX_PAUSES 100

static const char subscribe_sql[] =
    "SELECT @extschema@.subscribe(name => $1, pattern => $2, topic => $3, tenant_id => $4, "
    "filter => $5, filter_path => $6, target => $7, priority => $8, ordering => $9, "
    "start_at => $10, max_attempts => $11, retry_delay => $12, retry_cap => $13, backoff => $14, "
    "retry_schedule => $15::text::interval[], on_failure => $16, slots => $17, mode => $18, "
    "max_in_flight => $19, rate_limit => $20, timeout => $21, track => $22, "
    "target_options => $23)";

tl_status tl__subscription_check(tl_client *c, const char *name)
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
    if ((unsigned int)opts->backoff > TL_BACKOFF_SCHEDULE)
        return tl__error_set(e, TL_E_INVALID, NULL, "backoff is not a tl_backoff");
    if ((unsigned int)opts->on_failure > TL_ON_FAILURE_STOP)
        return tl__error_set(e, TL_E_INVALID, NULL, "on_failure is not a tl_on_failure");
    if ((unsigned int)opts->mode > TL_MODE_SYNC)
        return tl__error_set(e, TL_E_INVALID, NULL, "mode is not a tl_mode");
    if ((opts->retry_schedule != NULL) != (opts->retry_schedule_count > 0) ||
        opts->retry_schedule_count > MAX_PAUSES)
        return tl__error_set(e, TL_E_INVALID, NULL, "retry_schedule is not 1 to %d pauses",
                             MAX_PAUSES);
    if (opts->slots > INT32_MAX || opts->max_in_flight > INT32_MAX)
        return tl__error_set(e, TL_E_INVALID, NULL, "%s is too large",
                             opts->slots > INT32_MAX ? "slots" : "max_in_flight");
    if (opts->priority == 0)
        opts->priority = 5;
    if (opts->slots == 0)
        opts->slots = 1;
    return TL_OK;
}

const char *tl__start_text(tl_start start, int64_t value, char text[TL_TIME_TEXT_SIZE])
{
    switch (start) {
    case TL_START_BEGINNING:
        return "beginning";
    case TL_START_POSITION:
        (void)snprintf(text, TL_TIME_TEXT_SIZE, "%" PRId64, value);
        return text;
    case TL_START_TIME:
        tl__time_format(value, text);
        return text;
    default:
        return "end";
    }
}

static void param_count(struct tl__params *params, uint32_t value)
{
    if (value == 0)
        tl__param_null(params);
    else
        tl__param_i32(params, (int32_t)value);
}

/*
 * Array literal of the pauses; NULL without any. In seconds, which PostgreSQL 14 reads as an int: of
 * microseconds it would be 35 minutes. What is too long for that is still refused as too long.
 */
static const char *schedule_text(const tl_subscribe_options *opts, struct tl__buf *buf)
{
    if (opts->retry_schedule == NULL)
        return NULL;
    for (size_t i = 0; i < opts->retry_schedule_count; i++) {
        char pause[40];
        uint64_t us = opts->retry_schedule[i];
        uint64_t seconds = us / 1000000 > INT32_MAX ? INT32_MAX : us / 1000000;

        (void)snprintf(pause, sizeof pause, "%c%" PRIu64 ".%06u s", i == 0 ? '{' : ',', seconds,
                       (unsigned)(us % 1000000));
        tl__buf_add_str(buf, pause);
    }
    tl__buf_add_char(buf, '}');
    return buf->is_failed ? NULL : buf->data;
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
    static const char *const backoffs[] = {NULL, "fixed", "exponential", "schedule"};
    static const char *const on_failures[] = {NULL, "retry", "block_key", "stop"};
    TL_CLEANUP(tl__buf_done)
    struct tl__buf filter = TL_BUF_INIT;
    TL_CLEANUP(tl__buf_done)
    struct tl__buf path = TL_BUF_INIT;
    TL_CLEANUP(tl__buf_done)
    struct tl__buf schedule = TL_BUF_INIT;
    TL_CLEANUP(tl__buf_done)
    struct tl__buf target_options = TL_BUF_INIT;
    struct tl__params params = TL_PARAMS_INIT;
    char start[TL_TIME_TEXT_SIZE];
    tl_subscribe_options opts;
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = tl__subscription_check(c, name)) != TL_OK ||
        (status = opts_load(c, pattern, &opts, from)) != TL_OK ||
        (status = tl__call_begin(c)) != TL_OK)
        return status;
    tl__param_text(&params, name);
    tl__param_text(&params, pattern);
    tl__param_text(&params, opts.topic);
    tl__param_text(&params, opts.tenant_id);
    add_versioned(&params, &filter, opts.filter);
    add_versioned(&params, &path, opts.filter_path);
    tl__param_text(&params, opts.target);
    tl__param_i32(&params, (int32_t)opts.priority);
    tl__param_text(&params, orderings[opts.ordering]);
    tl__param_text(&params, tl__start_text(opts.start, opts.start_value, start));
    param_count(&params, opts.max_attempts);
    tl__param_interval(&params, opts.retry_delay_us);
    tl__param_interval(&params, opts.retry_cap_us);
    tl__param_text(&params, backoffs[opts.backoff]);
    tl__param_text(&params, schedule_text(&opts, &schedule));
    tl__param_text(&params, on_failures[opts.on_failure]);
    tl__param_i32(&params, (int32_t)opts.slots);
    tl__param_text(&params, opts.mode == TL_MODE_SYNC ? "sync" : "async");
    param_count(&params, opts.max_in_flight);
    if (opts.rate_limit == 0)
        tl__param_null(&params);
    else
        tl__param_f64(&params, opts.rate_limit);
    tl__param_interval(&params, opts.timeout_us);
    tl__param_text(&params, opts.track_all ? "all" : "none");
    add_versioned(&params, &target_options,
                  opts.target_options != NULL ? opts.target_options : "{}");
    if (filter.is_failed || path.is_failed || schedule.is_failed || target_options.is_failed)
        return tl__error_nomem(&c->error);
    status = tl__call(c, TL__WRITES, NULL, subscribe_sql, &params, NULL);
    if (status != TL_OK && strcmp(c->error.sqlstate, "22P02") == 0)
        return tl__error_set(&c->error, TL_E_INVALID, "22P02", "%s is not valid JSON",
                             opts.target_options == NULL ? "filter"
                             : opts.filter == NULL       ? "target_options"
                                                         : "filter or target_options");
    if (status != TL_OK && strcmp(c->error.sqlstate, "42601") == 0 && opts.filter_path != NULL)
        return tl__error_set(&c->error, TL_E_INVALID, "42601", "filter_path is not valid jsonpath");
    return status;
}
