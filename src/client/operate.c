/*
 * operate.c: what people do to subscriptions and dead letters: pause, resume, reset, drain, slots,
 * replay, unsubscribe; redrive, discard, resolve. All the rules are in SQL.
 */
#include "subscribe.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char unsubscribe_sql[] = "SELECT @extschema@.unsubscribe($1, $2)";
static const char pause_sql[] = "SELECT @extschema@.pause($1, $2)";
static const char resume_sql[] = "SELECT @extschema@.resume($1, $2)";
static const char reset_sql[] = "SELECT r.* FROM @extschema@.reset($1, $2) r";
static const char drain_sql[] = "SELECT @extschema@.drain($1)";
static const char set_slots_sql[] = "SELECT @extschema@.set_slots($1, $2)";
static const char replay_sql[] = "SELECT r.* FROM @extschema@.replay($1, $2, $3, $4, $5) r";
static const char cancel_sql[] = "SELECT @extschema@.cancel_replay($1)";

#define DEAD_FILTER                                                                                \
    "ids => $1::text::bigint[], subscription => $2, pattern => $3, reason => $4, since => $5, "    \
    "until => $6, tenant_id => $7, max_events => $8, dry_run => $9, "
static const char redrive_sql[] = "SELECT @extschema@.redrive(" DEAD_FILTER "rate => $10)";
static const char discard_sql[] = "SELECT @extschema@.discard(" DEAD_FILTER "note => $10)";
static const char resolve_sql[] = "SELECT @extschema@.resolve(" DEAD_FILTER "note => $10)";

static tl_status begin(tl_client *c, const char *name, struct tl__params *params)
{
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = tl__subscription_check(c, name)) != TL_OK ||
        (status = tl__call_begin(c)) != TL_OK)
        return status;
    tl__param_text(params, name);
    return TL_OK;
}

static void param_rate(struct tl__params *params, double rate)
{
    if (rate == 0)
        tl__param_null(params);
    else
        tl__param_f64(params, rate);
}

/* Call with a result of one boolean. */
static tl_status call_bool(tl_client *c, const char *sql, const struct tl__params *params,
                           bool *ret)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    tl_status status = tl__call(c, TL__WRITES, NULL, sql, params, &res);

    if (status == TL_OK)
        *ret = tl__cell_bool(res, 0, 0);
    return status;
}

/* Call with a result of one row of numbers. */
static tl_status call_numbers(tl_client *c, const char *sql, const struct tl__params *params,
                              int64_t *ret, int n)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    tl_status status = tl__call(c, TL__WRITES, NULL, sql, params, &res);

    for (int i = 0; status == TL_OK && i < n; i++)
        ret[i] = tl__cell_i64(res, 0, i);
    return status;
}

/* --------------------------------------------------------------------------- subscriptions -- */

static tl_status unsubscribe(tl_client *c, const char *name, bool is_forced)
{
    struct tl__params params = TL_PARAMS_INIT;
    tl_status status = begin(c, name, &params);

    if (status != TL_OK)
        return status;
    tl__param_bool(&params, is_forced);
    return tl__call(c, TL__WRITES, NULL, unsubscribe_sql, &params, NULL);
}

tl_status tl_unsubscribe(tl_client *c, const char *name)
{
    return unsubscribe(c, name, false);
}

tl_status tl_unsubscribe_force(tl_client *c, const char *name)
{
    return unsubscribe(c, name, true);
}

tl_status tl_subscription_pause(tl_client *c, const char *name, const char *reason)
{
    struct tl__params params = TL_PARAMS_INIT;
    bool was_active = false;
    tl_status status = begin(c, name, &params);

    if (status != TL_OK)
        return status;
    tl__param_text(&params, reason);
    status = call_bool(c, pause_sql, &params, &was_active);
    return status == TL_OK && !was_active ? TL_NOTHING : status;
}

tl_status tl_subscription_resume(tl_client *c, const char *name, bool skip)
{
    struct tl__params params = TL_PARAMS_INIT;
    bool was_paused = false;
    tl_status status = begin(c, name, &params);

    if (status != TL_OK)
        return status;
    tl__param_bool(&params, skip);
    status = call_bool(c, resume_sql, &params, &was_paused);
    return status == TL_OK && !was_paused ? TL_NOTHING : status;
}

static tl_status start_check(tl_client *c, const char *member, tl_start start, int64_t value)
{
    if ((unsigned int)start > TL_START_TIME)
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "%s is not a tl_start", member);
    if (start == TL_START_POSITION && value < 0)
        return tl__error_set(&c->error, TL_E_INVALID, NULL, "%s_value is negative", member);
    return TL_OK;
}

tl_status tl_subscription_reset(tl_client *c, const char *name, tl_start start, int64_t start_value,
                                tl_reset_result *ret)
{
    struct tl__params params = TL_PARAMS_INIT;
    char text[TL_TIME_TEXT_SIZE];
    int64_t numbers[4];
    tl_status status;

    if ((status = start_check(c, "start", start, start_value)) != TL_OK ||
        (status = begin(c, name, &params)) != TL_OK)
        return status;
    tl__param_text(&params, tl__start_text(start, start_value, text));
    status = call_numbers(c, reset_sql, &params, numbers, 4);
    if (status == TL_OK && ret != NULL)
        *ret = (tl_reset_result){numbers[0], numbers[1], numbers[2], numbers[3]};
    return status;
}

tl_status tl_subscription_drain(tl_client *c, const char *name, int64_t *ret_upto)
{
    struct tl__params params = TL_PARAMS_INIT;
    int64_t upto;
    tl_status status = begin(c, name, &params);

    if (status == TL_OK)
        status = call_numbers(c, drain_sql, &params, &upto, 1);
    if (status == TL_OK && ret_upto != NULL)
        *ret_upto = upto;
    return status;
}

tl_status tl_subscription_set_slots(tl_client *c, const char *name, uint32_t slots,
                                    bool *ret_in_force)
{
    struct tl__params params = TL_PARAMS_INIT;
    bool is_in_force = false;
    tl_status status = begin(c, name, &params);

    if (status != TL_OK)
        return status;
    tl__param_i32(&params, slots > INT32_MAX ? INT32_MAX : (int32_t)slots);
    status = call_bool(c, set_slots_sql, &params, &is_in_force);
    if (status == TL_OK && ret_in_force != NULL)
        *ret_in_force = is_in_force;
    return status;
}

tl_status tl_replay(tl_client *c, const char *subscription, const tl_replay_options *from,
                    int64_t *ret_replay, int64_t *ret_events)
{
    struct tl__params params = TL_PARAMS_INIT;
    char start[TL_TIME_TEXT_SIZE], end[TL_TIME_TEXT_SIZE];
    tl_replay_options opts;
    int64_t numbers[2];
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = tl__options_load(&c->error, "tl_replay", &opts, sizeof opts, from)) != TL_OK ||
        (status = start_check(c, "start", opts.start, opts.start_value)) != TL_OK ||
        (status = start_check(c, "end", opts.end, opts.end_value)) != TL_OK ||
        (status = begin(c, subscription, &params)) != TL_OK)
        return status;
    tl__param_text(&params, tl__start_text(opts.start, opts.start_value, start));
    tl__param_text(&params, tl__start_text(opts.end, opts.end_value, end));
    param_rate(&params, opts.rate);
    tl__param_bool(&params, opts.dry_run);
    status = call_numbers(c, replay_sql, &params, numbers, 2);
    if (status != TL_OK)
        return status;
    if (ret_replay != NULL && numbers[0] != 0)
        *ret_replay = numbers[0];
    if (ret_events != NULL)
        *ret_events = numbers[1];
    return numbers[1] > 0 ? TL_OK : TL_NOTHING;
}

tl_status tl_replay_cancel(tl_client *c, int64_t replay)
{
    struct tl__params params = TL_PARAMS_INIT;
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = tl__call_begin(c)) != TL_OK)
        return status;
    tl__param_i64(&params, replay);
    return tl__call(c, TL__WRITES, NULL, cancel_sql, &params, NULL);
}

/* ---------------------------------------------------------------------------- dead letters -- */

/* Array literal of the ids; NULL without any. */
static const char *ids_text(const tl_dead_filter *filter, struct tl__buf *buf)
{
    if (filter->ids == NULL)
        return NULL;
    tl__buf_add_char(buf, '{');
    for (size_t i = 0; i < filter->id_count; i++) {
        if (i > 0)
            tl__buf_add_char(buf, ',');
        tl__buf_add_i64(buf, filter->ids[i]);
    }
    tl__buf_add_char(buf, '}');
    return buf->is_failed ? NULL : buf->data;
}

/* A call on the dead letters of a filter; its last parameter is rate, or note when is_noted. */
static tl_status dead_call(tl_client *c, const char *call, const char *sql,
                           const tl_dead_filter *from, bool dry_run, bool is_noted,
                           const char *note, double rate, int64_t *ret)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf ids = TL_BUF_INIT;
    struct tl__params params = TL_PARAMS_INIT;
    tl_dead_filter filter;
    int64_t count;
    tl_status status;

    tl__error_clear(&c->error);
    if ((status = tl__options_load(&c->error, call, &filter, sizeof filter, from)) != TL_OK ||
        (status = tl__call_begin(c)) != TL_OK)
        return status;
    tl__param_text(&params, ids_text(&filter, &ids));
    if (ids.is_failed)
        return tl__error_nomem(&c->error);
    tl__param_text(&params, filter.subscription);
    tl__param_text(&params, filter.pattern);
    tl__param_text(&params, filter.reason);
    tl__param_time(&params, filter.since_us);
    tl__param_time(&params, filter.until_us);
    tl__param_text(&params, filter.tenant_id);
    tl__param_i32(&params, filter.limit == 0          ? 10000
                           : filter.limit > INT32_MAX ? INT32_MAX
                                                      : (int32_t)filter.limit);
    tl__param_bool(&params, dry_run);
    if (is_noted)
        tl__param_text(&params, note);
    else
        param_rate(&params, rate);
    status = call_numbers(c, sql, &params, &count, 1);
    if (status == TL_OK && ret != NULL)
        *ret = count;
    return status;
}

tl_status tl_dead_redrive(tl_client *c, const tl_dead_filter *filter, double rate, bool dry_run,
                          int64_t *ret)
{
    return dead_call(c, "tl_dead_redrive", redrive_sql, filter, dry_run, false, NULL, rate, ret);
}

tl_status tl_dead_discard(tl_client *c, const tl_dead_filter *filter, const char *note,
                          bool dry_run, int64_t *ret)
{
    return dead_call(c, "tl_dead_discard", discard_sql, filter, dry_run, true, note, 0, ret);
}

tl_status tl_dead_resolve(tl_client *c, const tl_dead_filter *filter, const char *note,
                          bool dry_run, int64_t *ret)
{
    return dead_call(c, "tl_dead_resolve", resolve_sql, filter, dry_run, true, note, 0, ret);
}
