/*
 * receiver.h: a small HTTP server on 127.0.0.1 for the program's own receivers of webhooks, with one
 * thread of its own. For src/cli only.
 */
#ifndef TL_CLI_RECEIVER_H
#define TL_CLI_RECEIVER_H

#include <stddef.h>
#include <stdint.h>

struct tl__receiver;

/* Borrowed during the call. */
struct tl__received {
    const char *method, *path;
    const char *body; /* never NULL */
    size_t body_len;
    void *connection;
};

/* On the receiver's thread: the HTTP status to answer with. */
typedef unsigned (*tl__receive_fn)(const struct tl__received *request, void *userdata);

/* *port 0: a free one, which is put there. `sent` (may be NULL) is called, on the receiver's thread,
 * when an answer is out. NULL: errno says why. */
struct tl__receiver *tl__receiver_start(uint16_t *port, tl__receive_fn fn,
                                        void (*sent)(void *userdata), void *userdata);
struct tl__receiver *tl__receiver_stop(struct tl__receiver *r);
/* Value of a header, NULL when it is not there; borrowed. */
const char *tl__received_header(const struct tl__received *request, const char *name);

#endif
