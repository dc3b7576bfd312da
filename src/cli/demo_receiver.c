/*
 * demo_receiver.c: see demo_receiver.h.
 */
#include "demo_receiver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "json_scan.h"
#include "receiver.h"

struct tl__demo_receiver {
    struct tl__receiver *receiver;
    tl__demo_receive_fn fn;
    void *userdata;
};

static int64_t position_of(const struct tl__received *request)
{
    struct tl__json_scan scan;
    struct tl__json_member m;

    tl__json_scan_start(&scan, request->body, request->body_len);
    while (tl__json_scan_next(&scan, &m))
        if (m.name_len == strlen("position") && memcmp(m.name, "position", m.name_len) == 0)
            return strtoll(m.value, NULL, 10);
    return -1;
}

static unsigned on_request(const struct tl__received *request, void *userdata)
{
    struct tl__demo_receiver *r = userdata;
    int64_t position = position_of(request);

    if (strcmp(request->method, "POST") != 0 || position < 0 ||
        !tl__received_header(request, "webhook-id"))
        return 400;
    r->fn(position, r->userdata);
    return 204;
}

struct tl__demo_receiver *tl__demo_receiver_start(uint16_t *port, tl__demo_receive_fn fn,
                                                  void *userdata)
{
    struct tl__demo_receiver *r = calloc(1, sizeof *r);

    if (!r)
        return NULL;
    r->fn = fn;
    r->userdata = userdata;
    r->receiver = tl__receiver_start(port, on_request, NULL, r);
    if (r->receiver)
        return r;
    int why = errno;
    free(r);
    errno = why;
    return NULL;
}

struct tl__demo_receiver *tl__demo_receiver_stop(struct tl__demo_receiver *r)
{
    if (r)
        tl__receiver_stop(r->receiver);
    free(r);
    return NULL;
}
