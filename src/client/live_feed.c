/* live_feed.c: see live.h: what is read when, and who gets it. */
#include "live.h"

#include "arrays.h"
#include "clock.h"

#include <string.h>

#define PAGE_BYTES (4 << 20)
#define SLICE_US 10000  /* handlers run so long before the caller's loop gets its turn */
#define RETRY_US 100000 /* after a read that failed; doubles */
#define RETRY_CAP_US 5000000
#define MAX_FAILURES 10      /* about 30 s */
#define MAX_NAMES 500        /* more in a filter: the server does not filter */
#define MAX_WILD_PATTERNS 16 /* the server keeps 32 compiled regular expressions */

enum { COL_ID = 1, COL_BYTES = TL__EVENT_COLUMNS };

static const char log_sql[] =
    "select " TL__EVENT_LIST ", bytes from @extschema@.live_read($1::text, $2::bigint, $3::bigint, "
    "$4::integer, $5::bigint, $6::text[], $7::text[], $8::text[], $9::text)";
static const char stream_sql[] =
    "select \"position\", id, type, source, stream_name, version, key, tenant_id, data, metadata, "
    "expires_at, created_at, bytes from @extschema@.live_read_stream($1::text, $2::text, "
    "$3::bigint, $4::integer, $5::bigint, $6::text)";

tl_status tl__live_statements_init(struct tl__hub *hub)
{
    struct tl_client *c = hub->client;
    tl_status status = tl__statement_init(&hub->log_statement, &c->error, c->settings.schema_quoted,
                                          NULL, log_sql);

    return status != TL_OK ? status
                           : tl__statement_init(&hub->stream_statement, &c->error,
                                                c->settings.schema_quoted, NULL, stream_sql);
}

/* -------------------------------------------------------------------------------- filters -- */

/* What the server leaves out of a read. Wider than need be is fine: wants() decides. */
struct filter {
    uint32_t streams, categories, patterns; /* how many there are */
    uint32_t wild_patterns;
    const char *tenant_id;
    bool is_everything; /* of any tenant that passes */
    bool is_any_tenant;
};

static void count_subscription(struct filter *f, const struct tl_live *s)
{
    if (s->tenant_id == NULL || (f->tenant_id != NULL && strcmp(f->tenant_id, s->tenant_id) != 0))
        f->is_any_tenant = true;
    f->tenant_id = s->tenant_id;
    if (s->kind == TL__LIVE_STREAM)
        f->streams++;
    else if (s->kind == TL__LIVE_CATEGORY)
        f->categories++;
    else if (s->type_count > 0)
        f->patterns += (uint32_t)s->type_count;
    else if (s->pattern == NULL)
        f->is_everything = true;
    else {
        f->patterns++;
        f->wild_patterns += strchr(s->pattern, '*') != NULL;
    }
}

static void add_subscription(struct tl__hub *hub, const struct tl_live *s)
{
    if (s->kind == TL__LIVE_STREAM)
        tl__array_add_text(&hub->streams, s->name);
    else if (s->kind == TL__LIVE_CATEGORY)
        tl__array_add_text(&hub->categories, s->name);
    else if (s->type_count == 0)
        tl__array_add_text(&hub->patterns, s->pattern);
    for (size_t i = 0; i < s->type_count && s->kind == TL__LIVE_ALL; i++)
        tl__array_add_text(&hub->patterns, s->types[i]);
}

static void array_param(struct tl__params *p, const struct tl__buf *array, uint32_t n)
{
    if (n > 0)
        tl__param_bytes(p, array->data, array->len);
    else
        tl__param_null(p);
}

/* Nobody joins while a read is on its way. */
static bool is_for(const struct tl_live *s, const struct tl_live *only)
{
    return only != NULL ? s == only : s->state == TL__LIVE_JOINED;
}

/* $6 to $9 of log_sql */
static void filter_params(struct tl__hub *hub, const struct tl__feed *feed,
                          const struct tl_live *only, struct tl__params *p)
{
    struct filter f = {.streams = 0};

    for (const struct tl_live *s = feed->subscriptions; s != NULL; s = s->next) {
        if (is_for(s, only))
            count_subscription(&f, s);
    }
    if (f.is_everything || f.streams + f.categories + f.patterns > MAX_NAMES ||
        f.wild_patterns > MAX_WILD_PATTERNS)
        f.streams = f.categories = f.patterns = 0;
    tl__buf_clear(&hub->streams);
    tl__buf_clear(&hub->categories);
    tl__buf_clear(&hub->patterns);
    tl__array_begin(&hub->streams, TL__OID_TEXT, f.streams);
    tl__array_begin(&hub->categories, TL__OID_TEXT, f.categories);
    tl__array_begin(&hub->patterns, TL__OID_TEXT, f.patterns);
    for (const struct tl_live *s = feed->subscriptions; s != NULL; s = s->next) {
        if (is_for(s, only) && f.streams + f.categories + f.patterns > 0)
            add_subscription(hub, s);
    }
    if (hub->streams.is_failed || hub->categories.is_failed || hub->patterns.is_failed)
        f.streams = f.categories = f.patterns = 0;
    array_param(p, &hub->streams, f.streams);
    array_param(p, &hub->categories, f.categories);
    array_param(p, &hub->patterns, f.patterns);
    tl__param_text(p, f.is_any_tenant ? NULL : f.tenant_id);
}

static bool is_in_category(const struct tl_live *s, const char *stream)
{
    return stream != NULL && strncmp(stream, s->name, s->name_len) == 0 &&
           (stream[s->name_len] == '-' || stream[s->name_len] == '\0');
}

static bool has_type(const struct tl_live *s, const char *type)
{
    for (size_t i = 0; i < s->type_count; i++) {
        if (strcmp(s->types[i], type) == 0)
            return true;
    }
    return s->type_count == 0;
}

static bool wants(const struct tl_live *s, const struct tl_event *e)
{
    if (s->kind == TL__LIVE_CATEGORY && !is_in_category(s, e->stream))
        return false;
    if (s->tenant_id != NULL && (e->tenant_id == NULL || strcmp(s->tenant_id, e->tenant_id) != 0))
        return false;
    return has_type(s, e->type) && (s->pattern == NULL || tl_pattern_matches(s->pattern, e->type));
}

/* ----------------------------------------------------------------------------- handing out -- */

void tl__live_drop_read(struct tl__hub *hub)
{
    if (hub->bell != NULL)
        tl__bell_forget(hub->bell, hub);
    PQclear(hub->read.res);
    hub->read = (struct tl__live_read){.feed = NULL};
}

/* One event to one subscription; its cursor moves on whether it wants the event or not. */
static void deliver(struct tl_live *s, const struct tl_event *e)
{
    int64_t place = e->position;

    if (s->kind == TL__LIVE_STREAM) {
        if (e->stream == NULL || strcmp(e->stream, s->name) != 0)
            return;
        place = e->version;
    }
    if (place <= s->cursor)
        return;
    if (wants(s, e)) {
        int status;

        s->feed->hub->stats.delivered++;
        status = s->handler(s, e, s->userdata);
        if (!tl__live_is_running(s))
            return;
        if (status < 0) {
            tl__live_end(s, status, NULL);
            return;
        }
    }
    s->cursor = place;
}

/* Was the page cut where the limits of one page are? */
static bool is_full(const struct tl__live_read *r, int rows)
{
    return rows > 0 &&
           ((uint32_t)rows >= r->batch || tl__cell_i64(r->res, rows - 1, COL_BYTES) >= PAGE_BYTES);
}

/* All of it was handed out, or of a page what lies before the feed. The last row is no event: its position
 * is what was looked at, its version the horizon. */
static void end_read(struct tl__hub *hub, bool has_met_feed)
{
    struct tl__live_read *r = &hub->read;
    struct tl__feed *feed = r->feed;
    int rows = PQntuples(r->res) - 1;
    bool has_more = is_full(r, rows);
    int64_t upto = tl__cell_i64(r->res, has_more ? rows - 1 : rows, 0);

    if (r->page == NULL) {
        has_more = has_more || upto < tl__cell_i64(r->res, rows, 5);
        feed->is_wanted = feed->is_wanted || has_more;
        if (upto > feed->position)
            feed->position = upto;
        for (struct tl_live *s = feed->subscriptions; s != NULL; s = s->next) {
            if (s->state == TL__LIVE_JOINED && s->kind != TL__LIVE_STREAM &&
                s->cursor < feed->position)
                s->cursor = feed->position;
        }
    } else if (r->page->kind != TL__LIVE_STREAM) {
        if (upto > r->page->cursor)
            r->page->cursor = upto;
    } else if (has_met_feed || !has_more) {
        r->page->state = TL__LIVE_JOINED;
        feed->is_wanted = true;
    }
    tl__live_drop_read(hub);
}

static void give_page(struct tl__hub *hub, const struct tl_event *e)
{
    struct tl__live_read *r = &hub->read;

    if (e->position > r->feed->position) {
        end_read(hub, true);
        return;
    }
    deliver(r->page, e);
    if (!tl__live_is_running(r->page))
        tl__live_drop_read(hub);
}

static void give_all(struct tl__feed *feed, const struct tl_event *e)
{
    for (struct tl_live *s = feed->subscriptions; s != NULL; s = s->next) {
        if (s->state == TL__LIVE_JOINED)
            deliver(s, e);
    }
    if (e->position > feed->position)
        feed->position = e->position;
}

void tl__live_dispatch(struct tl__hub *hub, uint64_t now_us)
{
    struct tl__live_read *r = &hub->read;

    while (r->res != NULL) {
        struct tl_event e;

        if (r->row >= PQntuples(r->res) - 1) {
            end_read(hub, false);
            return;
        }
        tl__event_from_row(r->res, r->row++, 0, &e);
        if (r->page != NULL)
            give_page(hub, &e);
        else
            give_all(r->feed, &e);
        if (tl__clock_us() >= now_us + SLICE_US)
            return;
    }
}

/* --------------------------------------------------------------------------------- reading -- */

/* A read failed. What may pass is tried again; the rest ends those that it was for. */
static void fail(struct tl__hub *hub, struct tl__feed *feed, struct tl_live *page,
                 const PGresult *res)
{
    struct tl_error e;
    tl_status status;

    tl__error_clear(&e);
    status = tl__error_from_result(&e, res, false);
    if (status == TL_OK) /* an answer without rows: none of ours */
        status = tl__error_set(&e, TL_E_SCHEMA, NULL, "live_read() gave nothing");
    /* a topic that is being dropped, a disk that is full: no end at the first sight of it */
    if (tl_error_is_retriable(&e) ||
        ((status == TL_E_SERVER || status == TL_E_SCHEMA) && ++feed->failures < MAX_FAILURES)) {
        feed->pause_us = feed->pause_us == 0 ? RETRY_US : feed->pause_us * 2;
        if (feed->pause_us > RETRY_CAP_US)
            feed->pause_us = RETRY_CAP_US;
        feed->retry_at_us = tl__clock_us() + feed->pause_us;
        feed->is_wanted = true;
        tl__log(&hub->client->settings, TL_LOG_WARN, "topic %s could not be read: %s", feed->topic,
                e.message);
        return;
    }
    tl__log(&hub->client->settings, TL_LOG_ERROR, "live subscriptions to topic %s end: %s",
            feed->topic, e.message);
    if (page != NULL) {
        tl__live_end(page, status, &e);
        return;
    }
    for (struct tl_live *s = feed->subscriptions; s != NULL; s = s->next) {
        if (s->state == TL__LIVE_JOINED)
            tl__live_end(s, status, &e);
    }
}

static void on_answer(void *owner, void *arg, const PGresult *res)
{
    struct tl__hub *hub = owner;
    struct tl__live_read *r = &hub->read;

    (void)arg;
    if (PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) > 0) {
        r->res = tl__bell_take_result(hub->bell);
        r->feed->pause_us = r->feed->retry_at_us = 0;
        r->feed->failures = 0;
        hub->stats.events += (uint64_t)PQntuples(res) - 1;
    } else {
        struct tl__feed *feed = r->feed;
        struct tl_live *page = r->page;

        *r = (struct tl__live_read){.feed = NULL};
        if (res != NULL)
            fail(hub, feed, page, res);
        else
            feed->is_wanted = true; /* the connection went away */
    }
}

static bool has_joined(const struct tl__feed *feed)
{
    for (const struct tl_live *s = feed->subscriptions; s != NULL; s = s->next) {
        if (s->state == TL__LIVE_JOINED)
            return true;
    }
    return false;
}

static void join_who_is_there(struct tl__feed *feed)
{
    for (struct tl_live *s = feed->subscriptions; s != NULL; s = s->next) {
        if (s->state == TL__LIVE_CATCHING_UP && s->kind != TL__LIVE_STREAM &&
            s->cursor >= feed->position) {
            s->state = TL__LIVE_JOINED;
            feed->is_wanted = true;
        }
    }
}

static bool send_log(struct tl__hub *hub, struct tl__feed *feed, const struct tl_live *page)
{
    struct tl__params p = TL_PARAMS_INIT;
    uint32_t batch = page != NULL ? page->batch : TL_MAX_CLAIM;

    for (const struct tl_live *s = feed->subscriptions; s != NULL && page == NULL; s = s->next) {
        if (s->state == TL__LIVE_JOINED && s->batch < batch)
            batch = s->batch;
    }
    hub->read.batch = batch;
    tl__param_text(&p, feed->topic);
    tl__param_i64(&p, page != NULL ? page->cursor : feed->position);
    if (page != NULL)
        tl__param_i64(&p, feed->position);
    else
        tl__param_null(&p);
    tl__param_i32(&p, (int32_t)batch);
    tl__param_i64(&p, PAGE_BYTES);
    filter_params(hub, feed, page, &p);
    return tl__bell_send(hub->bell, &hub->log_statement, &p, on_answer, hub);
}

static bool send_stream(struct tl__hub *hub, struct tl__feed *feed, const struct tl_live *page)
{
    struct tl__params p = TL_PARAMS_INIT;

    hub->read.batch = page->batch;
    tl__param_text(&p, feed->topic);
    tl__param_text(&p, page->name);
    tl__param_i64(&p, page->cursor);
    tl__param_i32(&p, (int32_t)page->batch);
    tl__param_i64(&p, PAGE_BYTES);
    tl__param_text(&p, page->tenant_id);
    return tl__bell_send(hub->bell, &hub->stream_statement, &p, on_answer, hub);
}

static void send_read(struct tl__hub *hub, struct tl__feed *feed, struct tl_live *page)
{
    bool is_sent;

    hub->read = (struct tl__live_read){.feed = feed, .page = page};
    if (page != NULL) {
        page->served = ++hub->turn;
        hub->stats.page_reads++;
    } else {
        feed->served = ++hub->turn;
        feed->is_wanted = false;
        feed->read_at_us = tl__clock_us();
        hub->stats.feed_reads++;
    }
    is_sent = page != NULL && page->kind == TL__LIVE_STREAM ? send_stream(hub, feed, page)
                                                            : send_log(hub, feed, page);
    if (!is_sent) { /* the connection is dead; the bell will find out */
        hub->read = (struct tl__live_read){.feed = NULL};
        feed->is_wanted = true;
    }
}

/* Who waited longest: feeds with something new, and each of those that catch up. */
void tl__live_schedule(struct tl__hub *hub, uint64_t now_us)
{
    struct tl__feed *feed = NULL;
    struct tl_live *page = NULL;
    uint64_t least = UINT64_MAX;

    for (struct tl__feed *f = hub->feeds; f != NULL; f = f->next) {
        if (now_us >= f->retry_at_us)
            f->retry_at_us = 0;
    }
    if (hub->read.feed != NULL || !tl__bell_is_ready(hub->bell))
        return;
    for (struct tl__feed *f = hub->feeds; f != NULL; f = f->next) {
        if (f->retry_at_us != 0)
            continue;
        join_who_is_there(f);
        if (f->is_wanted && f->served < least && has_joined(f)) {
            feed = f;
            page = NULL;
            least = f->served;
        }
        for (struct tl_live *s = f->subscriptions; s != NULL; s = s->next) {
            if (s->state == TL__LIVE_CATCHING_UP && s->served < least) {
                feed = f;
                page = s;
                least = s->served;
            }
        }
    }
    if (feed != NULL)
        send_read(hub, feed, page);
}

bool tl__live_has_work(const struct tl__hub *hub)
{
    return hub->read.res != NULL;
}

void tl__live_reconnected(struct tl__hub *hub)
{
    tl__live_drop_read(hub);
    for (struct tl__feed *f = hub->feeds; f != NULL; f = f->next) {
        f->is_wanted = true;
        for (struct tl_live *s = f->subscriptions; s != NULL; s = s->next) {
            if (s->state == TL__LIVE_JOINED && s->kind == TL__LIVE_STREAM)
                s->state = TL__LIVE_CATCHING_UP;
        }
    }
}

/* Also now and then when nothing seems to have changed: a horizon that fell back for a moment may have kept
 * a read short, and comes back without a change that the bell would see. */
static void on_claimed(void *owner, PGresult *res, bool has_changed)
{
    struct tl__hub *hub = owner;
    uint64_t now_us = tl__clock_us();

    PQclear(res);
    for (struct tl__feed *f = hub->feeds; f != NULL; f = f->next) {
        if (has_changed || now_us >= f->read_at_us + hub->client->settings.poll_interval_us)
            f->is_wanted = true;
    }
}

const struct tl__bell_owner tl__live_bell_owner = {.claimed = on_claimed};
