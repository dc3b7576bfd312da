/*
 * publish.h: what the ways to publish share: a checked event, its parameters, and errors that need a second
 * look. For publish*.c only.
 */
#ifndef TL_CLIENT_PUBLISH_H
#define TL_CLIENT_PUBLISH_H

#include "internal.h"

/* A caller's event after tl__new_event_load(): all members known, data_len filled in. */
struct tl__element {
    tl_new_event event;
    uint8_t uuid[16]; /* when event.id is set */
};

tl_status tl__element_load(struct tl_error *e, const tl_new_event *from, struct tl__element *ret);
/* Not too large, UTF-8, no NUL; field is for the message. */
tl_status tl__json_check(struct tl_error *e, const char *field, const char *text, size_t len);
/* The status of a call whose only JSON is this field: bad JSON gets its name. */
tl_status tl__json_named(struct tl_error *e, const char *field, tl_status status);
/* Topic name or its default; checked. */
tl_status tl__topic_load(struct tl_error *e, const char *topic, const char **ret);

/* Has it a due time, or an expiry that the server computes? */
bool tl__element_is_timed(const struct tl__element *el);
/* What of it has no small limit: for cutting batches. */
size_t tl__element_bytes(const struct tl__element *el);
/* By publish(), which takes the topic as a parameter: one statement for all topics. */
bool tl__element_is_by_function(const struct tl__element *el);
/* The statement for one element, with or without an id. has_receipt: it returns a row, else it may do without. */
const char *tl__publish_template(const struct tl__element *el, bool has_receipt);
/* Its parameters. json keeps the binary JSON that they point into. */
tl_status tl__publish_params(struct tl_error *e, const struct tl__element *el, const char *topic,
                             struct tl__buf *json, struct tl__params *ret);
/* "position", id[, deduplicated] of a row, or id alone, made by next_id(). */
void tl__receipt_from_row(const PGresult *res, int row, tl_receipt *ret);

/* Elements that one statement stores, as arrays (publish_batch.c). */
struct tl__chunk {
    const struct tl__element *elements;
    size_t count;
    bool has_ids, has_times; /* or more of them in the batch have */
};
#define TL__CHUNK_EVENTS 1000
#define TL__CHUNK_BYTES (4 << 20)
const char *tl__chunk_template(const struct tl__chunk *chunk);
/* The topic for tl__client_statement(): NULL where it is a parameter. */
const char *tl__chunk_topic(const struct tl__chunk *chunk, const char *topic);
/* All arrays one after the other in `out`. An array without any value is sent as NULL, which unnest() fills up. */
tl_status tl__chunk_params(struct tl_error *e, const struct tl__chunk *chunk, const char *topic,
                           struct tl__buf *out, struct tl__params *ret);

/* The error of a publish said that there is no such table: make it say what that means, without asking. */
tl_status tl__publish_no_topic(struct tl_error *e, const char *schema, const char *topic);
/* A publish on c failed: does the topic exist, does the schema, what is the limit? Asks the server
 * once where the error leaves it open, improves c->error and returns its status. */
tl_status tl__publish_explain(tl_client *c, const char *topic, tl_status status);

#endif
