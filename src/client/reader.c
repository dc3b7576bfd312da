/*
 * reader.c: tl_reader: a stream, a category or a topic, event by event, a page at a time. A page is bounded
 * in rows and, by the server, in bytes; the next is asked for behind the key of the last event, on whatever
 * connection there is then.
 */
#include "append.h"

#include "arrays.h"
#include "clock.h"
#include "str.h"

#include <string.h>

#define DEFAULT_PAGE_EVENTS 1000
#define MAX_TYPES 1000

/*
 * A page ends with the event that makes it reach PAGE_BYTES. JSON becomes text before it is counted and
 * not once more when it is sent; OFFSET 0 keeps that so.
 */
#define PAGE_BYTES 4194304
#define STRING(x) STRING_(x)
#define STRING_(x) #x
#define PAGE(source, key)                                                                          \
    "SELECT x.\"position\", x.id, x.type, x.source, x.stream, x.version, x.key, x.tenant_id, "     \
    "x.data, x.metadata, x.expires_at, x.created_at, x.place FROM (SELECT t.*, "                   \
    "sum(t.size) OVER (ROWS UNBOUNDED PRECEDING) - t.size AS before "                              \
    "FROM (SELECT y.*, coalesce(octet_length(y.data), 0) + coalesce(octet_length(y.metadata), 0) " \
    "AS size FROM (SELECT r.\"position\", r.id, r.type, r.source, r.stream, r.version, r.key, "    \
    "r.tenant_id, r.data::text AS data, r.metadata::text AS metadata, r.expires_at, "              \
    "r.created_at, " key " AS place FROM @extschema@." source                                      \
    " r OFFSET 0) y) t) x WHERE x.before < " STRING(PAGE_BYTES)
enum { DATA = 8, METADATA = 9, PLACE = TL__EVENT_COLUMNS };

static const char stream_sql[] =
    PAGE("read_stream(after => $1, max_events => $2, tenant_id => $3, topic => $4, stream => $5, "
         "upcast => $6, upto => $7, direction => $8)",
         "r.version");
static const char category_sql[] =
    PAGE("read_category(after => $1, max_events => $2, tenant_id => $3, topic => $4, "
         "category => $5, upcast => $6, since => $7)",
         "r.\"position\"");
static const char all_sql[] =
    PAGE("read(after => $1, max_events => $2, tenant => $3, topic => $4, pattern => $5, "
         "types => $6, correlation => $7, since => $8, direction => $9, upcast => $10)",
         "r.\"position\"");
static const char links_sql[] =
    PAGE("read_links(after => $1, max_events => $2, tenant => $3, name => $4)", "r.link");

enum kind { STREAM, CATEGORY, ALL, LINKS };

struct tl_reader {
    tl_client *c;
    enum kind kind;
    tl_reader_options opts; /* texts point to copies below */
    char topic[TL_MAX_TOPIC_BYTES + 1];
    char *name; /* of the stream, category or named stream */
    char *tenant_id, *pattern, *correlation_id;
    struct tl__buf types; /* binary array; empty: all */
    int64_t after;
    uint64_t left;  /* of the limit */
    PGresult *page; /* NULL: none */
    int row;        /* the next one of the page */
    bool is_end;    /* nothing was behind the page */
    bool is_done;   /* limit or upto is reached */
    struct tl_event event;
};

/* ------------------------------------------------------------------------------------ open -- */

static tl_status options_check(struct tl_error *e, enum kind kind, const tl_reader_options *o)
{
    const char *why = "";

    if (o->after < 0 || o->upto < 0)
        return tl__error_set(e, TL_E_INVALID, NULL, "%s is negative",
                             o->after < 0 ? "after" : "upto");
    if (o->page_events > TL_MAX_CLAIM)
        return tl__error_set(e, TL_E_INVALID, NULL, "page_events is not 1 to %d", TL_MAX_CLAIM);
    if (o->backward && (kind == CATEGORY || kind == LINKS))
        return tl__error_set(e, TL_E_UNSUPPORTED, NULL,
                             "categories and named streams are read forward only");
    if (o->since_us != 0 && (kind == STREAM || kind == LINKS))
        return tl__error_set(e, TL_E_UNSUPPORTED, NULL, "since_us is not for streams");
    if (kind == LINKS && (o->topic != NULL || o->upcast))
        return tl__error_set(e, TL_E_UNSUPPORTED, NULL,
                             "topic and upcast are not for named streams");
    if (kind != ALL && (o->pattern != NULL || o->type_count != 0 || o->correlation_id != NULL))
        return tl__error_set(e, TL_E_UNSUPPORTED, NULL,
                             "pattern, types and correlation_id are for whole topics");
    if (o->pattern != NULL && tl_pattern_check(o->pattern, &why) != TL_OK)
        return tl__error_set(e, TL_E_INVALID, NULL, "pattern %s", why);
    if (o->type_count > MAX_TYPES || (o->type_count > 0 && o->types == NULL))
        return tl__error_set(e, TL_E_INVALID, NULL, "types are not 1 to %d", MAX_TYPES);
    return TL_OK;
}

/* Copy what the caller lent. */
static tl_status options_keep(struct tl_reader *r, struct tl_error *e, const char *name)
{
    const tl_reader_options *o = &r->opts;

    if (o->type_count > 0) {
        tl__array_begin(&r->types, TL__OID_TEXT, o->type_count);
        for (size_t i = 0; i < o->type_count; i++)
            tl__array_add_text(&r->types, o->types[i]);
    }
    if ((name != NULL && (r->name = strdup(name)) == NULL) ||
        (o->tenant_id != NULL && (r->tenant_id = strdup(o->tenant_id)) == NULL) ||
        (o->correlation_id != NULL && (r->correlation_id = strdup(o->correlation_id)) == NULL) ||
        (o->pattern != NULL && (r->pattern = strdup(o->pattern)) == NULL) || r->types.is_failed)
        return tl__error_nomem(e);
    return TL_OK;
}

static tl_status reader_new(tl_client *c, enum kind kind, const char *name,
                            const tl_reader_options *from, tl_reader **ret)
{
    struct tl_error *e = &c->error;
    struct tl_reader *r;
    tl_reader_options opts;
    const char *topic;
    tl_status status;

    tl__error_clear(e);
    if ((status = tl__options_load(e, "tl_reader_open", &opts, sizeof opts, from)) != TL_OK ||
        (kind != ALL && (status = tl__stream_check(e, name)) != TL_OK) ||
        (status = tl__store_topic_load(e, opts.topic, &topic)) != TL_OK ||
        (status = options_check(e, kind, &opts)) != TL_OK)
        return status;
    r = calloc(1, sizeof *r);
    if (r == NULL)
        return tl__error_nomem(e);
    *r = (struct tl_reader){.c = c, .kind = kind, .opts = opts, .after = opts.after};
    r->left = opts.limit != 0 ? opts.limit : UINT64_MAX;
    if (r->opts.page_events == 0)
        r->opts.page_events = DEFAULT_PAGE_EVENTS;
    tl__str_copy(r->topic, sizeof r->topic, topic);
    status = options_keep(r, e, name);
    if (status != TL_OK) {
        (void)tl_reader_close(r);
        return status;
    }
    *ret = r;
    return TL_OK;
}

tl_status tl_reader_open_stream(tl_client *c, const char *stream, const tl_reader_options *opts,
                                tl_reader **ret)
{
    return reader_new(c, STREAM, stream, opts, ret);
}

tl_status tl_reader_open_category(tl_client *c, const char *category, const tl_reader_options *opts,
                                  tl_reader **ret)
{
    return reader_new(c, CATEGORY, category, opts, ret);
}

tl_status tl_reader_open_all(tl_client *c, const tl_reader_options *opts, tl_reader **ret)
{
    return reader_new(c, ALL, NULL, opts, ret);
}

tl_status tl_reader_open_links(tl_client *c, const char *name, const tl_reader_options *opts,
                               tl_reader **ret)
{
    return reader_new(c, LINKS, name, opts, ret);
}

tl_reader *tl_reader_close(tl_reader *r)
{
    if (r == NULL)
        return NULL;
    PQclear(r->page);
    tl__buf_done(&r->types);
    free(r->name);
    free(r->tenant_id);
    free(r->pattern);
    free(r->correlation_id);
    free(r);
    return NULL;
}

/* ------------------------------------------------------------------------------------ page -- */

static uint32_t page_size(const struct tl_reader *r)
{
    return r->left < r->opts.page_events ? (uint32_t)r->left : r->opts.page_events;
}

static const char *page_request(const struct tl_reader *r, struct tl__params *p)
{
    const char *direction = r->opts.backward ? "backward" : "forward";

    tl__param_i64(p, r->after);
    tl__param_i32(p, (int32_t)page_size(r));
    tl__param_text(p, r->tenant_id);
    if (r->kind == LINKS) {
        tl__param_text(p, r->name);
        return links_sql;
    }
    tl__param_text(p, r->topic);
    switch (r->kind) {
    case STREAM:
        tl__param_text(p, r->name);
        tl__param_bool(p, r->opts.upcast);
        if (r->opts.upto != 0)
            tl__param_i64(p, r->opts.upto);
        else
            tl__param_null(p);
        tl__param_text(p, direction);
        return stream_sql;
    case CATEGORY:
        tl__param_text(p, r->name);
        tl__param_bool(p, r->opts.upcast);
        tl__param_time(p, r->opts.since_us);
        return category_sql;
    case ALL:
    case LINKS:
        break;
    }
    tl__param_text(p, r->pattern != NULL ? r->pattern : "**");
    if (r->types.len > 0)
        tl__param_bytes(p, r->types.data, r->types.len);
    else
        tl__param_null(p);
    tl__param_text(p, r->correlation_id);
    tl__param_time(p, r->opts.since_us);
    tl__param_text(p, direction);
    tl__param_bool(p, r->opts.upcast);
    return all_sql;
}

/* At least what the server counted: with fewer it has cut nothing off. */
static size_t page_bytes(const PGresult *page)
{
    size_t bytes = 0;

    for (int row = 0; row < PQntuples(page); row++)
        bytes += (size_t)PQgetlength(page, row, DATA) + (size_t)PQgetlength(page, row, METADATA);
    return bytes;
}

/* Fetch the next page. Reading changes nothing, so a lost connection is no reason to give up before the
 * time is over. */
static tl_status page_fetch(struct tl_reader *r)
{
    tl_client *c = r->c;
    uint64_t deadline_us = tl__deadline_us(tl__clock_us(), c->settings.timeout_us);
    uint64_t pause_us = c->settings.reconnect_base_us;
    struct tl__params params = TL_PARAMS_INIT;
    const char *sql = page_request(r, &params);
    tl_status status;

    PQclear(r->page);
    r->page = NULL;
    for (;;) {
        struct tl_error kept;

        status = tl__call_begin(c);
        if (status == TL_OK) {
            if (c->deadline_us > deadline_us)
                c->deadline_us = deadline_us;
            status = tl__call(c, TL__READS, NULL, sql, &params, &r->page);
        }
        if (status != TL_E_CONNECTION || tl__deadline_us(tl__clock_us(), pause_us) >= deadline_us)
            break;
        kept = c->error;
        if (tl__client_pause(c, pause_us) != TL_OK)
            return TL_E_CANCELLED;
        c->error = kept;
        pause_us = pause_us * 2 < c->settings.reconnect_cap_us ? pause_us * 2
                                                               : c->settings.reconnect_cap_us;
    }
    if (status != TL_OK)
        return status;
    r->row = 0;
    r->is_end = (uint32_t)PQntuples(r->page) < page_size(r) && page_bytes(r->page) < PAGE_BYTES;
    return TL_OK;
}

/* Is the event behind the last one wanted? */
static bool is_beyond(const struct tl_reader *r, int64_t key)
{
    if (r->opts.upto == 0)
        return false;
    return r->opts.backward ? key < r->opts.upto : key > r->opts.upto;
}

/* The next event as it is stored. */
static tl_status take_row(struct tl_reader *r)
{
    int64_t key;
    tl_status status;

    if (r->left == 0 || r->is_done)
        return TL_NOTHING;
    if (r->page == NULL || r->row == PQntuples(r->page)) {
        if (r->page != NULL && r->is_end) { /* asked again, it looks again */
            PQclear(r->page);
            r->page = NULL;
            return TL_NOTHING;
        }
        status = page_fetch(r);
        if (status != TL_OK)
            return status;
        if (PQntuples(r->page) == 0) {
            PQclear(r->page);
            r->page = NULL;
            return TL_NOTHING;
        }
    }
    tl__event_from_row(r->page, r->row, 0, &r->event);
    key = tl__cell_i64(r->page, r->row, PLACE);
    if (is_beyond(r, key)) {
        r->is_done = true;
        return TL_NOTHING;
    }
    r->row++;
    r->after = key;
    r->is_done = r->opts.upto != 0 && key == r->opts.upto;
    return TL_OK;
}

tl_status tl_reader_next(tl_reader *r, const tl_event **ret)
{
    tl_upcasters *u = r->opts.upcasters;
    const tl_event *e = &r->event;
    tl_status status;

    tl__error_clear(&r->c->error);
    do {
        status = take_row(r);
        if (status != TL_OK)
            return status;
        if (r->event.type == NULL) { /* a link to an event that retention has dropped */
            status = TL_NOTHING;
        } else if (u != NULL) {
            status = tl_upcast(u, &r->event, &e);
            if (status < 0)
                r->c->error = *tl_upcasters_error(u);
        }
    } while (status == TL_NOTHING);
    if (status != TL_OK)
        return status;
    r->left--;
    *ret = e;
    return TL_OK;
}

int64_t tl_reader_after(const tl_reader *r)
{
    return r->after;
}
