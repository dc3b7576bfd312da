/*
 * message.h: what is sent for an event: body and headers, plain or as a CloudEvent, signed. Knows
 * no network. For webhook.c.
 */
#ifndef TL_SERVER_MESSAGE_H
#define TL_SERVER_MESSAGE_H

#include <curl/curl.h>

#include "buf.h"
#include "sink.h"

struct tl__message_form {
    enum { TL__MESSAGE_PLAIN, TL__MESSAGE_CLOUDEVENT, TL__MESSAGE_CLOUDEVENT_BINARY } format;
    const char *const *secrets; /* none: not signed */
    size_t secret_count;
    struct curl_slist *headers; /* further ones, "name: value" */
};

struct tl__message {
    const char *body; /* borrowed from the delivery, or in `own` */
    size_t body_len;
    struct tl__buf own;
    struct curl_slist *headers; /* `own_headers`, then those of the form */
    struct curl_slist own_headers[2];
    struct tl__buf lines; /* text of the first */
};

/* False: no memory or a malformed secret. tl__message_done() in both cases. It points into itself: do not
 * move it. */
bool tl__message_make(const struct tl__message_form *form, const struct tl__sink_delivery *d,
                      int64_t now_s, struct tl__message *ret);
void tl__message_done(struct tl__message *message);

#endif
