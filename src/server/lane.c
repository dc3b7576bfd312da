/*
 * lane.c: see lane.h. The worker decides what is delivered when; this file hands it to sinks and
 * gives their results back.
 */
#include "lane.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "breaker.h"
#include "buf.h"
#include "clock.h"
#include "log.h"
#include "str.h"

enum { MAX_KINDS = 4, WORKER_CONCURRENCY = 1000, CLAIM_BATCH = 500 };

/* A subscription with an open target. Freed when it is retired and nothing is in flight. */
struct served {
    struct served *next;
    struct tl__lane *lane;
    struct tl__subscription what;
    const struct tl__sink_kind *kind;
    struct tl__sink *sink;
    const char *problem; /* why it is not served; static text */
    struct tl__breaker breaker;
    enum tl__breaker_state shown; /* in the log */
    uint32_t handled_with;        /* concurrency the worker has for it; 0: it does not handle it */
    uint32_t in_flight;
    bool is_seen, is_retired, is_broken;
};

struct delivery {
    struct tl__sink_delivery view; /* first: done() gets its address */
    struct served *served;
    tl_delivery *delivery; /* NULL: a resend */
    char *body;
    struct tl__resends *resends; /* of a resend: what view points into */
    int64_t resend_id;
    tl_verdict verdict;
    bool is_in_handler, is_done;
};

struct tl__lane {
    struct tl__lane_settings settings;
    uv_loop_t *loop;
    tl_client *client;
    tl_worker *worker;
    struct tl__sink_env envs[MAX_KINDS]; /* one for each kind: the same but for .shared */
    struct served *served, *retired;
    struct tl__buf entry; /* of the journal, in the making */
    uv_poll_t worker_poll, timer_poll;
    uv_prepare_t prepare;
    uv_async_t async;
    int timer_fd;
    uint64_t armed_us; /* for when the timer is set */
    uv_mutex_t lock;   /* of the next two */
    struct tl__subscription_list *posted;
    struct tl__resends *resends;
    atomic_bool is_stop_posted, is_abort_posted;
    bool is_ready, is_stopping, is_aborting, has_ended;
    bool is_changed; /* a target broke, a breaker moved */
    bool is_kicked;  /* the loop is about to make a step */
};

static void step(struct tl__lane *lane);

/* ------------------------------------------------------------------------------------ deadlines */

/* Microseconds matter (the sentinel naps for 200 of them) and libuv's timers have milliseconds. */
static void arm_timer(struct tl__lane *lane, uint64_t at_us)
{
    struct itimerspec when = {0};

    if (at_us == lane->armed_us)
        return;
    lane->armed_us = at_us;
    if (at_us != UINT64_MAX) {
        when.it_value.tv_sec = (time_t)(at_us / 1000000);
        when.it_value.tv_nsec = (long)(at_us % 1000000 * 1000);
        if (at_us == 0)
            when.it_value.tv_nsec = 1; /* zero would disarm */
    }
    timerfd_settime(lane->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* A step before the loop waits again. */
static void kick(struct tl__lane *lane)
{
    lane->is_kicked = true;
}

/* ----------------------------------------------------------------------------------- deliveries */

static void served_free(struct served *s)
{
    if (s->sink)
        s->kind->close(s->sink);
    tl__subscription_done(&s->what);
    free(s);
}

static void unlink_served(struct served **list, struct served *s)
{
    while (*list && *list != s)
        list = &(*list)->next;
    if (*list)
        *list = s->next;
}

static void maybe_free(struct served *s)
{
    if (!s->is_retired || s->in_flight > 0)
        return;
    unlink_served(&s->lane->retired, s);
    served_free(s);
}

static tl_verdict verdict_of(enum tl__sink_word word)
{
    return word == TL__SINK_DELIVERED ? TL_DONE
           : word == TL__SINK_SKIP    ? TL_SKIP
           : word == TL__SINK_REJECT  ? TL_FAIL
                                      : TL_RETRY;
}

static void log_result(const struct delivery *d, const struct tl__sink_result *result)
{
    bool is_fine = result->word == TL__SINK_DELIVERED || result->word == TL__SINK_SKIP;
    const char *const words[] = {"delivered", "retry", "rejected", "skipped", "fatal"};

    tl__log_event(is_fine ? TL_LOG_DEBUG : TL_LOG_WARN, is_fine ? "delivered" : "delivery_failed",
                  "subscription", d->view.subscription, "delivery", d->view.id, "type",
                  d->view.event.type, "attempt", TL_NUMBER(d->view.attempt), "result",
                  words[result->word], "reason",
                  is_fine           ? NULL
                  : result->summary ? result->summary
                                    : result->error,
                  NULL);
}

/* Fields of an entry of the journal. */

static void add_word(struct tl__buf *b, const char *word)
{
    tl__buf_add(b, word, strlen(word) + 1);
}

static void add_number(struct tl__buf *b, int64_t number)
{
    tl__buf_add_i64(b, number);
    tl__buf_add_char(b, 0);
}

/* Whatever it is: what a text cannot hold is replaced. NULL: none. */
static void add_text(struct tl__buf *b, const char *text, size_t len)
{
    size_t from = b->len + 1, plain_from = 0;

    if (!text) {
        add_word(b, "NULL");
        return;
    }
    tl__buf_reserve(b, 2 * len + 3);
    tl__buf_add_char(b, '"');
    for (size_t i = 0; i < len; i++) {
        if (text[i] && text[i] != '"' && text[i] != '\\')
            continue;
        tl__buf_add(b, text + plain_from, i - plain_from);
        tl__buf_add_char(b, text[i] ? '\\' : '?');
        plain_from = text[i] ? i : i + 1;
    }
    tl__buf_add(b, text + plain_from, len - plain_from);
    if (!b->is_failed)
        tl__utf8_clean(b->data + from);
    tl__buf_add(b, "\"", 2);
}

/* The entry of a request, as record_attempts() takes it. */
static void add_entry(struct tl__buf *b, const struct delivery *d,
                      const struct tl__sink_result *result)
{
    const struct tl__sink_attempt *a = result->attempt;
    const struct tl__sink_event *e = &d->view.event;
    const char *error = result->word == TL__SINK_DELIVERED ? NULL : result->error;

    add_number(b, d->served->what.id);
    add_word(b, e->id);
    add_text(b, e->type, strlen(e->type));
    add_number(b, e->position);
    add_number(b, d->view.attempt);
    if (d->resend_id)
        add_number(b, d->resend_id);
    else
        add_word(b, "NULL");
    add_text(b, a->url, strlen(a->url));
    add_word(b, result->word == TL__SINK_DELIVERED ? "t" : "f");
    add_word(b, result->word == TL__SINK_REJECT ? "t" : "f");
    if (a->status)
        add_number(b, a->status);
    else
        add_word(b, "NULL");
    add_text(b, a->status ? a->response : NULL, a->response_len);
    add_text(b, error, error ? strlen(error) : 0);
    add_number(b, (int64_t)a->duration_us);
    add_number(b, a->started_at_us);
}

/* Into the journal, unless it is a success that changes nothing and nobody wants to read about. */
static void note_attempt(struct delivery *d, const struct tl__sink_result *result)
{
    struct served *s = d->served;
    bool is_delivered = result->word == TL__SINK_DELIVERED;
    bool is_news = !is_delivered || d->resend_id || s->what.failures > 0 ||
                   s->breaker.failures > 0 || s->breaker.state != TL__BREAKER_CLOSED;

    if (!is_news && s->what.log != TL__LOG_ALL)
        return;
    struct tl__buf *entry = &s->lane->entry;
    tl__buf_clear(entry);
    add_entry(entry, d, result);
    uint64_t seq = tl__journal_add(s->lane->settings.journal, entry->is_failed ? NULL : entry->data,
                                   entry->len);
    if (is_delivered || !d->resend_id)
        tl__breaker_count(&s->breaker, is_delivered, s->what.breaker_failures, seq);
    s->lane->is_changed = s->lane->is_changed || s->breaker.state != s->shown;
}

static void delivery_free(struct delivery *d)
{
    struct served *s = d->served;

    tl_free(d->body);
    tl__resends_unref(d->resends);
    free(d);
    s->in_flight--;
    maybe_free(s);
}

static void on_done(struct tl__sink_delivery *view, const struct tl__sink_result *result)
{
    struct delivery *d = (struct delivery *)view;
    struct tl__lane *lane = d->served->lane;

    if (lane->is_aborting) { /* nobody waits for it: the lease runs out */
        delivery_free(d);
        return;
    }
    log_result(d, result);
    if (result->attempt)
        note_attempt(d, result);
    if (!d->delivery) {
        delivery_free(d);
        kick(lane);
        return;
    }
    if (result->word == TL__SINK_FATAL)
        d->served->is_broken = lane->is_changed = true;
    if (result->error)
        tl_delivery_set_error(d->delivery, result->error);
    if (result->wish_us)
        tl_delivery_set_retry_wish(d->delivery, result->wish_us);
    if (result->floor_us)
        tl_delivery_set_retry_floor(d->delivery, result->floor_us);
    d->verdict = verdict_of(result->word);
    d->is_done = true;
    if (d->is_in_handler)
        return;
    tl_delivery *delivery = d->delivery;
    tl_verdict verdict = d->verdict;
    delivery_free(d);
    tl_delivery_complete(delivery, verdict);
    kick(lane);
}

static struct tl__sink_event view_of(const tl_event *e)
{
    struct tl__sink_event view = {
        .id = tl_event_id(e),
        .type = tl_event_type(e),
        .source = tl_event_source(e),
        .stream = tl_event_stream(e),
        .key = tl_event_key(e),
        .tenant_id = tl_event_tenant_id(e),
        .position = tl_event_position(e),
        .version = tl_event_version(e),
        .created_at_us = tl_event_created_at_us(e),
        .expires_at_us = tl_event_expires_at_us(e),
    };

    view.data = tl_event_data(e, &view.data_len);
    view.metadata = tl_event_metadata(e, &view.metadata_len);
    return view;
}

static tl_verdict handle(tl_delivery *delivery, void *userdata)
{
    struct served *s = userdata;
    const tl_event *event = tl_delivery_event(delivery);
    struct delivery *d = malloc(sizeof *d);
    size_t len = 0;
    char *body = d ? tl_event_to_json(event, &len) : NULL;

    if (!body) {
        free(d);
        tl_delivery_set_error(delivery, "out of memory");
        return TL_RETRY;
    }
    *d = (struct delivery){
        .view = {.id = tl_delivery_id(delivery),
                 .subscription = s->what.name,
                 .event = view_of(event),
                 .attempt = tl_delivery_attempt(delivery),
                 .body = body,
                 .body_len = len,
                 .timeout_us = s->what.timeout_us,
                 .tx = tl_delivery_tx(delivery),
                 .done = on_done},
        .served = s,
        .delivery = delivery,
        .body = body,
        .is_in_handler = true,
    };
    s->in_flight++;
    s->kind->deliver(s->sink, &d->view);
    if (!d->is_done) {
        d->is_in_handler = false;
        return TL_PENDING;
    }
    tl_verdict verdict = d->verdict;
    delivery_free(d);
    return verdict;
}

/* -------------------------------------------------------------------------------------- resends */

static struct served *find_id(struct tl__lane *lane, int64_t id)
{
    for (struct served *s = lane->served; s; s = s->next)
        if (s->what.id == id && s->sink)
            return s;
    return NULL;
}

/* What is not sent here, others take over later. */
static void resend(struct tl__lane *lane, struct tl__resends *r, int row)
{
    struct served *s = find_id(lane, tl__resends_number(r, row, TL__RESEND_SUBSCRIPTION));
    struct delivery *d = s ? calloc(1, sizeof *d) : NULL;
    struct tl__buf id = TL_BUF_INIT;
    const char *data = tl__resends_text(r, row, TL__RESEND_DATA),
               *event_id = tl__resends_text(r, row, TL__RESEND_EVENT_ID);

    if (!d)
        return;
    tl__buf_addf(&id, "%s.%lld", event_id, (long long)s->what.id);
    r->refs++;
    *d = (struct delivery){
        .view = {.subscription = s->what.name,
                 .event = {.id = event_id,
                           .type = tl__resends_text(r, row, TL__RESEND_TYPE),
                           .source = tl__resends_text(r, row, TL__RESEND_SOURCE),
                           .stream = tl__resends_text(r, row, TL__RESEND_STREAM),
                           .key = tl__resends_text(r, row, TL__RESEND_KEY),
                           .tenant_id = tl__resends_text(r, row, TL__RESEND_TENANT),
                           .data = data,
                           .data_len = strlen(data),
                           .position = tl__resends_number(r, row, TL__RESEND_POSITION),
                           .version = tl__resends_number(r, row, TL__RESEND_VERSION),
                           .created_at_us = tl__resends_number(r, row, TL__RESEND_CREATED_US),
                           .expires_at_us = tl__resends_number(r, row, TL__RESEND_EXPIRES_US)},
                 .body = tl__resends_text(r, row, TL__RESEND_BODY),
                 .body_len = strlen(tl__resends_text(r, row, TL__RESEND_BODY)),
                 .timeout_us = s->what.timeout_us,
                 .done = on_done},
        .served = s,
        .resends = r,
        .resend_id = tl__resends_number(r, row, TL__RESEND_ID),
    };
    d->body = tl__buf_take(&id, NULL); /* the only memory of its own */
    d->view.id = d->body;
    s->in_flight++;
    if (d->view.id)
        s->kind->deliver(s->sink, &d->view);
    else
        delivery_free(d);
}

static void send_resends(struct tl__lane *lane, struct tl__resends *list)
{
    while (list) {
        struct tl__resends *r = list;
        list = r->next;
        for (int row = 0; row < PQntuples(r->rows) && !lane->is_stopping && !lane->has_ended; row++)
            resend(lane, r, row);
        tl__resends_unref(r);
    }
}

/* ---------------------------------------------------------------------------- what is served now */

static const struct tl__sink_kind *kind_of(const struct tl__sink_kind *const *kinds,
                                           const char *target, size_t *ret_index)
{
    for (size_t i = 0; kinds[i]; i++)
        for (const char *const *prefix = kinds[i]->prefixes; *prefix; prefix++)
            if (strncmp(target, *prefix, strlen(*prefix)) == 0) {
                *ret_index = i;
                return kinds[i];
            }
    return NULL;
}

bool tl__lane_serves(const struct tl__sink_kind *const *kinds, const char *target)
{
    size_t ignored;

    return kind_of(kinds, target, &ignored) != NULL;
}

static void retire(struct served *s)
{
    unlink_served(&s->lane->served, s);
    s->next = s->lane->retired;
    s->lane->retired = s;
    s->is_retired = true;
    maybe_free(s);
}

static void let_go(struct served *s)
{
    struct tl__lane *lane = s->lane;
    tl_status status =
        s->handled_with ? tl_worker_forget(lane->worker, s->what.name) : TL_E_NOTFOUND;

    s->handled_with = 0;
    if (status < 0 && status != TL_E_NOTFOUND)
        tl__log_error(TL_LOG_WARN, "forget_failed", status, tl_worker_error(lane->worker));
}

static void forget(struct served *s, const char *why)
{
    if (s->sink) {
        let_go(s);
        tl__log_event(TL_LOG_INFO, "unserved", "subscription", s->what.name, "reason", why, NULL);
    }
    retire(s);
}

static void note_problem(struct served *s, const char *problem)
{
    if (!tl__str_equal(s->problem, problem))
        tl__log_event(TL_LOG_WARN, "not_served", "subscription", s->what.name, "kind",
                      s->kind->name, "reason", problem, NULL);
    s->problem = problem;
}

/* Let the worker have it with as much concurrency as its breaker permits. */
static tl_status hand_over(struct served *s)
{
    struct tl__lane *lane = s->lane;
    uint32_t most = s->what.concurrency ? s->what.concurrency : lane->settings.options->concurrency;
    uint32_t wanted = s->breaker.state == TL__BREAKER_CLOSED   ? most
                      : s->breaker.state == TL__BREAKER_TRYING ? 1
                                                               : 0;
    static const char *const words[] = {"closed", "open", "half-open"};

    if (s->breaker.state != s->shown)
        tl__log_event(TL_LOG_WARN, "breaker", "subscription", s->what.name, "state",
                      words[s->breaker.state], NULL);
    s->shown = s->breaker.state;
    if (wanted == s->handled_with)
        return TL_OK;
    if (wanted == 0) {
        let_go(s);
        return TL_OK;
    }
    tl_status status = tl_worker_handle(
        lane->worker, s->what.name, handle, s,
        TL_HANDLE_OPTIONS(.transactional = s->kind->is_transactional, .concurrency = wanted));
    if (status == TL_OK)
        s->handled_with = wanted;
    return status;
}

/* Open the target and tell the worker; on failure s stays with its problem for the next list. */
static void start_serving(struct served *s, size_t kind_index)
{
    struct tl__lane *lane = s->lane;
    const struct tl__sink_env *env = &lane->envs[kind_index];
    const char *problem = NULL;
    struct tl__sink *sink = s->kind->open(env,
                                          &(struct tl__sink_target){
                                              .target = s->what.target,
                                              .call = s->what.call,
                                              .role = s->what.role,
                                              .secrets = s->what.secrets,
                                              .headers = s->what.headers,
                                              .format = s->what.format,
                                          },
                                          &problem);

    if (!sink) {
        note_problem(s, problem);
        return;
    }
    s->sink = sink;
    tl_status status = hand_over(s);
    if (status != TL_OK) {
        if (status != TL_E_NOTFOUND) /* removed meanwhile */
            tl__log_error(TL_LOG_WARN, "handle_failed", status, tl_worker_error(lane->worker));
        s->sink = s->kind->close(sink);
        return;
    }
    s->problem = NULL;
    tl__log_event(TL_LOG_INFO, "served", "subscription", s->what.name, "kind", s->kind->name, NULL);
}

static void apply_breaker(struct served *s)
{
    tl_status status = hand_over(s);

    if (status < 0 && status != TL_E_NOTFOUND)
        tl__log_error(TL_LOG_WARN, "handle_failed", status, tl_worker_error(s->lane->worker));
}

static struct served *find(struct tl__lane *lane, const char *name)
{
    for (struct served *s = lane->served; s; s = s->next)
        if (strcmp(s->what.name, name) == 0)
            return s;
    return NULL;
}

static struct served *add(struct tl__lane *lane, struct tl__subscription *take,
                          const struct tl__sink_kind *kind)
{
    struct served *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    *s = (struct served){.next = lane->served, .lane = lane, .what = *take, .kind = kind};
    *take = (struct tl__subscription){0};
    lane->served = s;
    return s;
}

static void take_list(struct tl__lane *lane, struct tl__subscription_list *list)
{
    for (struct served *s = lane->served; s; s = s->next)
        s->is_seen = false;
    for (size_t i = 0; i < list->count; i++) {
        struct tl__subscription *item = &list->items[i];
        size_t index;
        uint32_t failures = item->failures;
        bool is_open = item->is_open, is_probe = item->is_probe;
        const struct tl__sink_kind *kind = kind_of(lane->settings.kinds, item->target, &index);
        struct served *s = kind ? find(lane, item->name) : NULL;
        if (!kind)
            continue;
        struct served *old = s && !tl__subscription_is_same(&s->what, item) ? s : NULL;
        if (!s || old)
            s = add(lane, item, kind);
        if (!s)
            continue;
        s->is_seen = true;
        if (old && old->what.id != s->what.id) { /* another one of the same name */
            forget(old, "replaced");
            old = NULL;
        }
        if (old) {
            s->breaker = old->breaker;
            s->shown = old->shown;
        }
        s->what.failures = failures;
        tl__breaker_take(&s->breaker, is_open, is_probe, list->journal_seq);
        if (s->sink)
            apply_breaker(s);
        else
            start_serving(s, index);
        if (old && s->sink && !s->handled_with)
            let_go(old); /* its breaker is open */
        if (old && s->sink)
            retire(old); /* the worker has the new handler now */
        else if (old)
            forget(old, "changed");
    }
    for (struct served *s = lane->served, *next; s; s = next) {
        next = s->next;
        if (!s->is_seen)
            forget(s, "removed");
    }
}

/* ----------------------------------------------------------------------------------------- loop */

/* Unless it drained, deliveries may be in flight: nobody waits for their results any more. */
static void end(struct tl__lane *lane, tl_status status)
{
    if (lane->has_ended)
        return;
    lane->has_ended = true;
    lane->is_aborting = true;
    uv_poll_stop(&lane->worker_poll);
    arm_timer(lane, UINT64_MAX);
    for (size_t i = 0; lane->settings.kinds[i]; i++)
        if (lane->settings.kinds[i]->abort && lane->envs[i].shared)
            lane->settings.kinds[i]->abort(&lane->envs[i]);
    /* nothing handles them any more: others need not wait for the leases to expire */
    if (status == TL_E_CANCELLED && (status = tl_worker_abandon(lane->worker)) != TL_OK)
        tl__log_error(TL_LOG_WARN, "left_to_expire", status, tl_worker_error(lane->worker));
    lane->settings.on_end(status, lane->settings.userdata);
}

/* What deliveries brought to light. Not inside the worker's call of a handler. */
static void look_after(struct tl__lane *lane)
{
    if (!lane->is_changed)
        return;
    lane->is_changed = false;
    for (struct served *s = lane->served, *next; s; s = next) {
        next = s->next;
        if (s->is_broken)
            forget(s, "target is broken");
        else if (s->sink && !lane->is_stopping)
            apply_breaker(s);
    }
}

static void step(struct tl__lane *lane)
{
    if (lane->has_ended)
        return;
    lane->is_kicked = false;
    look_after(lane); /* before the worker starts the next delivery */
    tl_status status = tl_worker_process(lane->worker);
    if (status == TL_NOTHING) {
        end(lane, TL_OK);
    } else if (status < 0) {
        tl__log_error(TL_LOG_ERROR, "worker_failed", status, tl_worker_error(lane->worker));
        end(lane, status);
    } else {
        look_after(lane);
        lane->is_kicked = false; /* the worker's deadline knows */
        arm_timer(lane, tl_worker_deadline_us(lane->worker));
    }
}

static void on_worker_ready(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    step(poll->data);
}

static void on_deadline(uv_poll_t *poll, int status, int events)
{
    struct tl__lane *lane = poll->data;
    uint64_t count;

    (void)status;
    (void)events;
    if (read(lane->timer_fd, &count, sizeof count) != (ssize_t)sizeof count)
        return;
    lane->armed_us = UINT64_MAX;
    step(lane);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct tl__lane *lane = prepare->data;

    if (lane->is_kicked)
        step(lane);
}

static void on_async(uv_async_t *async)
{
    struct tl__lane *lane = async->data;

    uv_mutex_lock(&lane->lock);
    struct tl__subscription_list *list = lane->posted;
    struct tl__resends *resends = lane->resends;
    lane->posted = NULL;
    lane->resends = NULL;
    uv_mutex_unlock(&lane->lock);
    if (lane->is_abort_posted && !lane->has_ended) {
        end(lane, TL_E_CANCELLED);
    } else if (lane->is_stop_posted && !lane->is_stopping && !lane->has_ended) {
        lane->is_stopping = true;
        tl_worker_stop(lane->worker);
        kick(lane);
    } else if (list && !lane->is_stopping && !lane->has_ended) {
        take_list(lane, list);
        if (!lane->is_ready && lane->settings.on_ready)
            lane->settings.on_ready(lane->settings.userdata);
        lane->is_ready = true;
        kick(lane);
    }
    tl__subscription_list_free(list);
    send_resends(lane, resends);
}

void tl__lane_post_resends(struct tl__lane *lane, struct tl__resends *resends)
{
    uv_mutex_lock(&lane->lock);
    resends->next = lane->resends;
    lane->resends = resends;
    uv_mutex_unlock(&lane->lock);
    uv_async_send(&lane->async);
}

void tl__lane_post_list(struct tl__lane *lane, struct tl__subscription_list *list)
{
    uv_mutex_lock(&lane->lock);
    struct tl__subscription_list *old = lane->posted;
    lane->posted = list;
    uv_mutex_unlock(&lane->lock);
    tl__subscription_list_free(old);
    uv_async_send(&lane->async);
}

void tl__lane_post_stop(struct tl__lane *lane)
{
    lane->is_stop_posted = true;
    uv_async_send(&lane->async);
}

void tl__lane_post_abort(struct tl__lane *lane)
{
    lane->is_abort_posted = true;
    uv_async_send(&lane->async);
}

/* --------------------------------------------------------------------------------- open, close */

static tl_status connect_worker(struct tl__lane *lane)
{
    const struct tl__serve_options *options = lane->settings.options;
    tl_status status = tl_client_open(options->conninfo, &options->client, &lane->client);

    if (status == TL_OK)
        status = tl_worker_new(
            lane->client, "serve", NULL,
            TL_WORKER_OPTIONS(.concurrency = WORKER_CONCURRENCY, .claim_batch = CLAIM_BATCH,
                              .lease_us = options->lease_us,
                              /* serve.c's own limit goes first */
                              .stop_timeout_us = options->stop_timeout_us + 10000000),
            &lane->worker);
    if (status != TL_OK)
        tl__log_error(TL_LOG_ERROR, "start_failed", status,
                      lane->client ? tl_client_error(lane->client) : NULL);
    return status;
}

static bool watch(struct tl__lane *lane)
{
    uv_loop_t *loop = lane->loop;

    if (uv_async_init(loop, &lane->async, on_async) != 0)
        return false;
    lane->async.data = lane;
    uv_prepare_init(loop, &lane->prepare);
    lane->prepare.data = lane;
    uv_prepare_start(&lane->prepare, on_prepare);
    lane->armed_us = UINT64_MAX;
    lane->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (lane->timer_fd < 0 || uv_poll_init(loop, &lane->timer_poll, lane->timer_fd) != 0 ||
        uv_poll_init(loop, &lane->worker_poll, tl_worker_fd(lane->worker)) != 0)
        return false;
    lane->timer_poll.data = lane->worker_poll.data = lane;
    return uv_poll_start(&lane->timer_poll, UV_READABLE, on_deadline) == 0 &&
           uv_poll_start(&lane->worker_poll, UV_READABLE, on_worker_ready) == 0;
}

static void close_handle(void *handle)
{
    if (uv_handle_get_type(handle) != UV_UNKNOWN_HANDLE)
        uv_close(handle, NULL);
}

/* Out of file descriptors: take back what was opened. The loop has nothing else yet. */
static void unwatch(struct tl__lane *lane)
{
    close_handle(&lane->worker_poll);
    close_handle(&lane->timer_poll);
    close_handle(&lane->prepare);
    close_handle(&lane->async);
    (void)uv_run(lane->loop, UV_RUN_DEFAULT);
    if (lane->timer_fd >= 0)
        close(lane->timer_fd);
}

tl_status tl__lane_open(const struct tl__lane_settings *settings, uv_loop_t *loop,
                        struct tl__lane **ret)
{
    struct tl__lane *lane = calloc(1, sizeof *lane);

    if (!lane)
        return TL_E_NOMEM;
    lane->settings = *settings;
    lane->loop = loop;
    lane->timer_fd = -1;
    tl_status status = connect_worker(lane);
    if (status == TL_OK && !watch(lane)) {
        tl__log_event(TL_LOG_ERROR, "start_failed", "message", "cannot watch the connection", NULL);
        unwatch(lane);
        status = TL_E_LIMIT;
    }
    if (status != TL_OK) {
        tl_worker_free(lane->worker);
        tl_client_close(lane->client);
        free(lane);
        return status;
    }
    uv_mutex_init(&lane->lock);
    for (size_t i = 0; settings->kinds[i]; i++) {
        lane->envs[i] = (struct tl__sink_env){
            .loop = loop,
            .guard = settings->guard,
            .webhook_timeout_us = settings->options->webhook_timeout_us,
            .exec_timeout_us = settings->options->exec_timeout_us,
            .allow_exec = settings->options->allow_exec,
            .is_https_only = settings->options->is_https_only,
            .webhook_ca_file = settings->options->webhook_ca_file,
        };
        if (settings->kinds[i]->start)
            lane->envs[i].shared = settings->kinds[i]->start(&lane->envs[i]);
    }
    kick(lane);
    *ret = lane;
    return TL_OK;
}

/* A command that was ended is in flight until its process group is gone. */
static bool is_in_flight(const struct tl__lane *lane, const struct tl__sink_kind *kind)
{
    for (const struct served *s = lane->retired; s; s = s->next)
        if (s->kind == kind)
            return true;
    return false;
}

void tl__lane_close(struct tl__lane *lane)
{
    lane->has_ended = true;
    uv_close((uv_handle_t *)&lane->worker_poll, NULL);
    uv_close((uv_handle_t *)&lane->timer_poll, NULL);
    uv_close((uv_handle_t *)&lane->prepare, NULL);
    uv_close((uv_handle_t *)&lane->async, NULL);
    lane->worker = tl_worker_free(lane->worker);
    lane->client = tl_client_close(lane->client);
    while (lane->served)
        retire(lane->served);
    for (size_t i = 0; lane->settings.kinds[i]; i++)
        if (lane->settings.kinds[i]->stop && lane->envs[i].shared &&
            !is_in_flight(lane, lane->settings.kinds[i]))
            lane->envs[i].shared = lane->settings.kinds[i]->stop(lane->envs[i].shared);
}

struct tl__lane *tl__lane_free(struct tl__lane *lane)
{
    if (!lane)
        return NULL;
    for (size_t i = 0; lane->settings.kinds[i]; i++) /* what commands that were ended still used */
        if (lane->settings.kinds[i]->stop && lane->envs[i].shared)
            lane->envs[i].shared = lane->settings.kinds[i]->stop(lane->envs[i].shared);
    close(lane->timer_fd);
    tl__subscription_list_free(lane->posted);
    tl__buf_done(&lane->entry);
    send_resends(lane, lane->resends); /* only frees them */
    uv_mutex_destroy(&lane->lock);
    free(lane);
    return NULL;
}
