/*
 * append.h: what the ways to append share: a checked request, its parameters, the rows it gives. For
 * append*.c and repository*.c only.
 */
#ifndef TL_CLIENT_APPEND_H
#define TL_CLIENT_APPEND_H

#include "publish.h"

/* A stream's name: 1..255 bytes of UTF-8 without control characters. */
tl_status tl__stream_check(struct tl_error *e, const char *stream);
tl_status tl__expected_check(struct tl_error *e, int64_t expected_version);
void tl__param_expected(struct tl__params *p, int64_t expected_version); /* TL_EXPECT_ANY: NULL */
/* Topic name or the default of the store; checked. */
tl_status tl__store_topic_load(struct tl_error *e, const char *topic, const char **ret);

/* Caller's events, checked. */
struct tl__events {
    size_t count;
    struct tl__element *elements;
    struct tl__element one; /* elements of a single event: most appends */
    bool has_ids, has_metadata, has_sources;
    bool has_extras; /* keys or expiry */
};
/* tenant_id: that of the append; an event must not have another. e is not NULL. */
tl_status tl__events_load(struct tl_error *e, const tl_new_event *from, size_t n,
                          const char *tenant_id, struct tl__events *ret);
void tl__events_done(struct tl__events *events);

/* The arrays of events, in this order, as parameters: types, data, metadata, ids, sources, and with extras
 * keys, expires_at, ttl. One that is all NULL is sent as NULL. bytes keeps what they point into. */
enum tl__array {
    TL__ARRAY_TYPES,
    TL__ARRAY_DATA,
    TL__ARRAY_METADATA,
    TL__ARRAY_IDS,
    TL__ARRAY_SOURCES,
    TL__ARRAY_KEYS,
    TL__ARRAY_EXPIRES,
    TL__ARRAY_TTLS,
    TL__ARRAY_COUNT
};
/* lists: n lists of events, taken as one. */
tl_status tl__events_params(struct tl_error *e, const struct tl__events *lists, size_t n,
                            int array_count, struct tl__buf *bytes, struct tl__params *params);

/* "position", id, version, deduplicated. */
#define TL__APPENDED_LIST "a.\"position\", a.id, a.version, a.deduplicated"
/* Take the rows of an append of n events; ret may be NULL. */
tl_status tl__appended_take(struct tl_error *e, const PGresult *res, size_t n, tl_appended *ret);

/* An append failed: find the event whose JSON is to blame, if it is that; the error's index is the event's,
 * or with is_by_list its list's. Changes c->error, returns its status. */
tl_status tl__append_explain(tl_client *c, const struct tl__events *lists, size_t n,
                             bool is_by_list, tl_status status);

#endif
