/*
 * live.c: live subscriptions of a client: made, driven, ended. What they read and get is in
 * live_feed.c. Everything happens in the thread that calls.
 */
#include "live.h"

#include "append.h"
#include "clock.h"
#include "publish.h"

#include <poll.h>
#include <string.h>

#define DEFAULT_BATCH 1000
#define MAX_TYPES 1000

static const char start_sql[] =
    "SELECT s.cursor, s.horizon FROM @extschema@.live_start("
    "topic => $1, is_of_streams => $2, stream => $3, after => $4, tenant => $5) s";

/* ------------------------------------------------------------------------------------ life -- */

static void live_free(struct tl_live *s)
{
    free(s->name);
    free(s->pattern);
    free(s->tenant_id);
    for (size_t i = 0; i < s->type_count; i++)
        free(s->types[i]);
    free(s->types);
    free(s);
}

static bool has_running(const struct tl__feed *feed)
{
    for (const struct tl_live *s = feed->subscriptions; s != NULL; s = s->next) {
        if (tl__live_is_running(s))
            return true;
    }
    return false;
}

static uint64_t running_feeds(const struct tl__hub *hub)
{
    uint64_t n = 0;

    for (const struct tl__feed *f = hub->feeds; f != NULL; f = f->next)
        n += has_running(f);
    return n;
}

static void close_bell(struct tl__hub *hub)
{
    const struct tl__bell_counts *counts;

    if (hub->bell == NULL)
        return;
    tl__live_drop_read(hub);
    counts = tl__bell_get_counts(hub->bell);
    hub->stats.wakes += counts->wakes;
    hub->stats.reconnects += counts->reconnects;
    hub->bell = tl__bell_free(hub->bell);
}

/* Forget what was stopped, topics without a subscription, and, when nothing runs, the connection. Not while
 * handlers run. */
static void sweep(struct tl__hub *hub)
{
    if (running_feeds(hub) == 0)
        close_bell(hub);
    for (struct tl__feed **at = &hub->feeds; *at != NULL;) {
        struct tl__feed *f = *at;

        for (struct tl_live **sub = &f->subscriptions; *sub != NULL;) {
            struct tl_live *s = *sub;

            if (!s->is_freed) {
                sub = &s->next;
                continue;
            }
            if (hub->read.page == s)
                tl__live_drop_read(hub);
            *sub = s->next;
            live_free(s);
        }
        if (f->subscriptions != NULL) {
            at = &f->next;
            continue;
        }
        if (hub->read.feed == f)
            tl__live_drop_read(hub);
        *at = f->next;
        free(f->topic);
        free(f);
    }
}

bool tl__hub_free(struct tl__hub *hub)
{
    if (hub == NULL)
        return true;
    if (hub->is_inside)
        return false;
    close_bell(hub);
    for (struct tl__feed *f = hub->feeds; f != NULL; f = f->next) {
        for (struct tl_live *s = f->subscriptions; s != NULL; s = s->next)
            s->is_freed = true;
    }
    sweep(hub);
    tl__statement_done(&hub->log_statement);
    tl__statement_done(&hub->stream_statement);
    tl__buf_done(&hub->streams);
    tl__buf_done(&hub->categories);
    tl__buf_done(&hub->patterns);
    free(hub);
    return true;
}

void tl__live_end(struct tl_live *s, int status, const struct tl_error *e)
{
    s->state = TL__LIVE_ENDED;
    s->status = status;
    if (e != NULL)
        s->error = *e;
    else
        tl__error_set(&s->error, TL_E_CANCELLED, NULL, "the handler ended the subscription");
    if (s->ended != NULL)
        s->ended(s, status, s->userdata);
}

tl_live *tl_live_stop(tl_live *s)
{
    struct tl__hub *hub;

    if (s == NULL)
        return NULL;
    hub = s->feed->hub;
    s->state = TL__LIVE_ENDED;
    s->is_freed = true;
    if (!hub->is_inside)
        sweep(hub);
    return NULL;
}

/* ----------------------------------------------------------------------------- subscribing -- */

static tl_status get_hub(tl_client *c, struct tl__hub **ret)
{
    struct tl__hub *hub = c->hub;

    if (hub == NULL) {
        hub = calloc(1, sizeof *hub);
        if (hub == NULL)
            return tl__error_nomem(&c->error);
        hub->client = c;
        tl__error_clear(&hub->error);
        if (tl__live_statements_init(hub) != TL_OK) {
            (void)tl__hub_free(hub);
            return TL_E_NOMEM;
        }
        c->hub = hub;
    }
    *ret = hub;
    return TL_OK;
}

static tl_status get_bell(struct tl__hub *hub)
{
    const struct tl__settings *settings = &hub->client->settings;
    tl_status status;

    if (hub->bell != NULL)
        return TL_OK;
    status = tl__bell_new(settings, &tl__live_bell_owner, hub, settings->poll_interval_us,
                          !settings->no_listen, hub->client->wake_fd, &hub->error, &hub->bell);
    hub->reconnects = 0;
    /* each bell counts its connections from the beginning */
    hub->log_statement.prepared_on = hub->stream_statement.prepared_on = 0;
    if (status != TL_OK)
        hub->client->error = hub->error;
    return status;
}

static tl_status get_feed(struct tl__hub *hub, const char *topic, int64_t horizon,
                          struct tl__feed **ret)
{
    struct tl__feed **at = &hub->feeds;

    while (*at != NULL && strcmp((*at)->topic, topic) != 0)
        at = &(*at)->next;
    if (*at == NULL) {
        struct tl__feed *f = calloc(1, sizeof *f);

        if (f == NULL || (f->topic = strdup(topic)) == NULL) {
            free(f);
            return tl__error_nomem(&hub->client->error);
        }
        f->hub = hub;
        *at = f;
    }
    if (!has_running(*at))
        (*at)->position = horizon;
    *ret = *at;
    return TL_OK;
}

static tl_status check_name(struct tl_error *e, const char *field, const char *name)
{
    size_t len = name == NULL ? 0 : strlen(name);

    if (len == 0 || len > TL_MAX_NAME_BYTES)
        return tl__error_set(e, TL_E_INVALID, NULL, "%s is not 1 to %d bytes", field,
                             TL_MAX_NAME_BYTES);
    return TL_OK;
}

static tl_status check_options(struct tl_error *e, tl_live_options *opts)
{
    const char *why = "";

    if (opts->after < 0)
        return tl__error_set(e, TL_E_INVALID, NULL, "after is negative");
    if (opts->from_end && opts->after != 0)
        return tl__error_set(e, TL_E_INVALID, NULL, "both after and from_end are given");
    if (opts->pattern != NULL && tl_pattern_check(opts->pattern, &why) != TL_OK)
        return tl__error_set(e, TL_E_INVALID, NULL, "pattern %s", why);
    if ((opts->types == NULL) != (opts->type_count == 0) || opts->type_count > MAX_TYPES)
        return tl__error_set(e, TL_E_INVALID, NULL, "type_count is not 1 to %d with types",
                             MAX_TYPES);
    for (size_t i = 0; i < opts->type_count; i++) {
        if (tl_type_check(opts->types[i], &why) != TL_OK) {
            tl__error_set(e, TL_E_INVALID, NULL, "type %s", why);
            e->index = (int64_t)i;
            return TL_E_INVALID;
        }
    }
    if (opts->tenant_id != NULL && check_name(e, "tenant_id", opts->tenant_id) != TL_OK)
        return TL_E_INVALID;
    if (opts->batch > TL_MAX_CLAIM)
        return tl__error_set(e, TL_E_INVALID, NULL, "batch is not 1 to %d", TL_MAX_CLAIM);
    if (opts->batch == 0)
        opts->batch = DEFAULT_BATCH;
    if (opts->topic == NULL)
        opts->topic = "store";
    /* everything is what NULL says */
    if (opts->pattern != NULL &&
        (strcmp(opts->pattern, "*") == 0 || strcmp(opts->pattern, "**") == 0))
        opts->pattern = NULL;
    return tl__topic_check(e, opts->topic);
}

static bool copy_text(char **to, const char *from)
{
    return from == NULL || (*to = strdup(from)) != NULL;
}

static struct tl_live *live_new(enum tl__live_kind kind, const char *name, size_t name_len,
                                const tl_live_options *opts)
{
    struct tl_live *s = calloc(1, sizeof *s);
    bool is_good;

    if (s == NULL)
        return NULL;
    s->kind = kind;
    s->batch = opts->batch;
    s->ended = opts->ended;
    s->name_len = name_len;
    tl__error_clear(&s->error);
    is_good = copy_text(&s->pattern, opts->pattern) && copy_text(&s->tenant_id, opts->tenant_id);
    if (name != NULL)
        is_good = is_good && (s->name = strndup(name, name_len)) != NULL;
    if (opts->type_count > 0)
        is_good = is_good && (s->types = calloc(opts->type_count, sizeof *s->types)) != NULL;
    for (size_t i = 0; is_good && i < opts->type_count; i++) {
        is_good = copy_text(&s->types[i], opts->types[i]);
        s->type_count += is_good;
    }
    if (!is_good) {
        live_free(s);
        return NULL;
    }
    return s;
}

/* Where it begins, by the server. */
static tl_status find_start(tl_client *c, struct tl_live *s, const tl_live_options *opts,
                            int64_t *ret_horizon)
{
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    struct tl__params params = TL_PARAMS_INIT;
    tl_status status = tl__call_begin(c);

    if (status != TL_OK)
        return status;
    tl__param_text(&params, opts->topic);
    tl__param_bool(&params, s->kind != TL__LIVE_ALL);
    tl__param_text(&params, s->kind == TL__LIVE_STREAM ? s->name : NULL);
    if (opts->from_end)
        tl__param_null(&params);
    else
        tl__param_i64(&params, opts->after);
    tl__param_text(&params, opts->tenant_id);
    status = tl__call(c, TL__READS, NULL, start_sql, &params, &res);
    if (status == TL_OK) {
        s->cursor = tl__cell_i64(res, 0, 0);
        *ret_horizon = tl__cell_i64(res, 0, 1);
    }
    return status;
}

static tl_status add(tl_client *c, struct tl_live *s, const char *topic, int64_t horizon)
{
    struct tl_live **at;
    struct tl__hub *hub = NULL;
    struct tl__feed *feed = NULL;
    tl_status status = get_hub(c, &hub);

    if (status == TL_OK)
        status = get_bell(hub);
    if (status == TL_OK)
        status = get_feed(hub, topic, horizon, &feed);
    if (status != TL_OK)
        return status;
    s->feed = feed;
    s->number = ++hub->made;
    for (at = &feed->subscriptions; *at != NULL; at = &(*at)->next) {
    }
    *at = s;
    hub->is_dirty = true;
    return TL_OK;
}

static tl_status subscribe(tl_client *c, enum tl__live_kind kind, const char *name, size_t name_len,
                           tl_live_options *opts, tl_live_fn handler, void *userdata, tl_live **ret)
{
    struct tl_live *s;
    int64_t horizon = 0;
    tl_status status;

    if (handler == NULL || ret == NULL)
        return tl__error_set(&c->error, TL_E_INVALID, NULL,
                             "no handler, or no place for the handle");
    status = check_options(&c->error, opts);
    if (status != TL_OK)
        return status;
    s = live_new(kind, name, name_len, opts);
    if (s == NULL)
        return tl__error_nomem(&c->error);
    s->handler = handler;
    s->userdata = userdata;
    status = find_start(c, s, opts, &horizon);
    if (status == TL_OK)
        status = add(c, s, opts->topic, horizon);
    if (status != TL_OK) {
        live_free(s);
        return status;
    }
    *ret = s;
    return TL_OK;
}

static tl_status load(tl_client *c, const char *call, tl_live_options *opts,
                      const tl_live_options *from)
{
    tl__error_clear(&c->error);
    return tl__options_load(&c->error, call, opts, sizeof *opts, from);
}

tl_status tl_subscribe_stream(tl_client *c, const char *stream, const tl_live_options *from,
                              tl_live_fn handler, void *userdata, tl_live **ret)
{
    tl_live_options opts;
    tl_status status = load(c, "tl_subscribe_stream", &opts, from);

    if (status == TL_OK)
        status = tl__stream_check(&c->error, stream);
    if (status != TL_OK)
        return status;
    return subscribe(c, TL__LIVE_STREAM, stream, strlen(stream), &opts, handler, userdata, ret);
}

tl_status tl_subscribe_category(tl_client *c, const char *category, const tl_live_options *from,
                                tl_live_fn handler, void *userdata, tl_live **ret)
{
    tl_live_options opts;
    size_t len;
    tl_status status = load(c, "tl_subscribe_category", &opts, from);

    if (status == TL_OK)
        status = check_name(&c->error, "category", category);
    if (status != TL_OK)
        return status;
    len = strlen(category);
    if (len > 2 && strcmp(category + len - 2, "-*") == 0)
        len -= 2;
    if (memchr(category, '-', len) != NULL)
        return tl__error_set(&c->error, TL_E_INVALID, NULL,
                             "category has a '-', which ends the category of a stream");
    return subscribe(c, TL__LIVE_CATEGORY, category, len, &opts, handler, userdata, ret);
}

tl_status tl_subscribe_all(tl_client *c, const tl_live_options *from, tl_live_fn handler,
                           void *userdata, tl_live **ret)
{
    tl_live_options opts;
    tl_status status = load(c, "tl_subscribe_all", &opts, from);

    if (status != TL_OK)
        return status;
    return subscribe(c, TL__LIVE_ALL, NULL, 0, &opts, handler, userdata, ret);
}

tl_status tl_subscribe_type(tl_client *c, const char *pattern, const tl_live_options *from,
                            tl_live_fn handler, void *userdata, tl_live **ret)
{
    tl_live_options opts;
    tl_status status = load(c, "tl_subscribe_type", &opts, from);

    if (status != TL_OK)
        return status;
    if (pattern == NULL || opts.pattern != NULL)
        return tl__error_set(&c->error, TL_E_INVALID, NULL,
                             "pattern is NULL, or given in the options too");
    opts.pattern = pattern;
    return subscribe(c, TL__LIVE_ALL, NULL, 0, &opts, handler, userdata, ret);
}

/* ---------------------------------------------------------------------------------- driving -- */

/* The connection is given up for good. What is subscribed while the ends are told gets another one. */
static void end_all(struct tl__hub *hub, tl_status status)
{
    struct tl_error e = hub->error;
    uint64_t last = hub->made;

    close_bell(hub);
    for (struct tl__feed *f = hub->feeds; f != NULL; f = f->next) {
        for (struct tl_live *s = f->subscriptions; s != NULL; s = s->next) {
            if (tl__live_is_running(s) && s->number <= last)
                tl__live_end(s, status, &e);
        }
    }
    hub->client->error = e;
}

static tl_status process(struct tl__hub *hub)
{
    uint64_t now_us = tl__clock_us();
    bool is_woken = false;
    tl_status status = tl__bell_process(hub->bell, now_us, &is_woken);
    uint64_t reconnects;

    hub->is_dirty = false;
    hub->is_woken = hub->is_woken || is_woken;
    if (status != TL_OK) {
        end_all(hub, status);
        return status;
    }
    reconnects = tl__bell_get_counts(hub->bell)->reconnects;
    if (reconnects != hub->reconnects) {
        hub->reconnects = reconnects;
        tl__live_reconnected(hub);
    }
    tl__live_dispatch(hub, now_us);
    now_us = tl__clock_us();
    tl__live_schedule(hub, now_us);
    tl__bell_write(hub->bell, now_us);
    return TL_OK;
}

tl_status tl_client_process(tl_client *c)
{
    struct tl__hub *hub = c->hub;
    tl_status status;

    if (hub != NULL && hub->is_inside)
        return tl__error_set(&c->error, TL_E_INVALID, NULL,
                             "the client is run by one of its handlers");
    if (hub == NULL || hub->bell == NULL)
        return TL_NOTHING;
    hub->is_inside = true;
    status = process(hub);
    hub->is_inside = false;
    sweep(hub);
    return status == TL_OK && hub->bell == NULL ? TL_NOTHING : status;
}

int tl_client_fd(const tl_client *c)
{
    return c->hub != NULL && c->hub->bell != NULL ? tl__bell_fd(c->hub->bell) : -1;
}

int tl_client_events(const tl_client *c)
{
    (void)c;
    return POLLIN;
}

uint64_t tl_client_deadline_us(const tl_client *c)
{
    const struct tl__hub *hub = c->hub;
    uint64_t at;

    if (hub == NULL || hub->bell == NULL)
        return UINT64_MAX;
    if (hub->is_dirty || tl__live_has_work(hub))
        return 0;
    at = tl__bell_deadline_us(hub->bell);
    for (const struct tl__feed *f = hub->feeds; f != NULL; f = f->next) {
        if (f->retry_at_us != 0 && f->retry_at_us < at)
            at = f->retry_at_us;
    }
    return at;
}

tl_status tl_client_run(tl_client *c, uint64_t timeout_us)
{
    uint64_t until_us = tl__deadline_us(tl__clock_us(), timeout_us);

    tl__error_clear(&c->error);
    if (c->hub != NULL && !c->hub->is_inside)
        c->hub->is_woken = false;
    for (;;) {
        tl_status status = tl_client_process(c);
        uint64_t deadline_us = tl_client_deadline_us(c);

        if (status != TL_OK)
            return status;
        if (c->hub->is_woken)
            return tl__error_set(&c->error, TL_E_CANCELLED, NULL, "the run was ended");
        if (tl__clock_us() >= until_us)
            return tl__error_set(&c->error, TL_E_TIMEOUT, NULL, "subscriptions are still running");
        tl__bell_sleep(c->hub->bell, deadline_us < until_us ? deadline_us : until_us);
    }
}

/* ------------------------------------------------------------------------------- accessors -- */

int64_t tl_live_position(const tl_live *s)
{
    return s->cursor;
}

bool tl_live_is_caught_up(const tl_live *s)
{
    return s->state == TL__LIVE_JOINED;
}

int tl_live_status(const tl_live *s)
{
    return s->status;
}

const tl_error *tl_live_error(const tl_live *s)
{
    return &s->error;
}

void tl_client_get_live_stats(const tl_client *c, tl_live_stats *ret)
{
    const struct tl__hub *hub = c->hub;
    const struct tl__waiter_policy *p;

    *ret = (tl_live_stats){0};
    if (hub == NULL)
        return;
    *ret = hub->stats;
    ret->feeds = running_feeds(hub);
    if (hub->bell == NULL)
        return;
    p = tl__bell_policy(hub->bell);
    ret->wakes += tl__bell_get_counts(hub->bell)->wakes;
    ret->reconnects += tl__bell_get_counts(hub->bell)->reconnects;
    ret->is_connected = tl__bell_is_ready(hub->bell);
    ret->is_listening = p->is_listening;
    ret->is_sentinel = p->is_sentinel;
}
