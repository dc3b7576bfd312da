/*
 * delivery.c: what a handler sees of its delivery and what it says about it.
 */
#include "worker.h"

#include "str.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ERROR_LIMIT_BYTES 2000

const tl_event *tl_delivery_event(const tl_delivery *d)
{
    return d->event;
}

const char *tl_delivery_subscription(const tl_delivery *d)
{
    return d->lease->route->name;
}

const char *tl_delivery_topic(const tl_delivery *d)
{
    return d->lease->route->topic;
}

uint32_t tl_delivery_attempt(const tl_delivery *d)
{
    return d->attempt;
}

const char *tl_delivery_id(const tl_delivery *d)
{
    struct tl_delivery *self = (struct tl_delivery *)(uintptr_t)d; /* made when first asked for */

    if (d->id[0] == '\0') {
        size_t len = strlen(d->event->id);

        memcpy(self->id, d->event->id, len);
        self->id[len] = '.';
        (void)tl__i64_format(d->lease->route->subscription_id, self->id + len + 1);
    }
    return d->id;
}

tl_client *tl_delivery_client(tl_delivery *d)
{
    return d->lease->route->worker->client;
}

tl_tx *tl_delivery_tx(tl_delivery *d)
{
    struct tl__route *r = d->lease->route;

    return r->is_transactional ? &r->worker->tx : NULL;
}

/* The text goes into jsonb: whatever is no UTF-8 is replaced, not passed on to fail there. */
void tl_delivery_set_error(tl_delivery *d, const char *message)
{
    char *copy = NULL;

    if (message != NULL) {
        size_t len = strnlen(message, ERROR_LIMIT_BYTES + 1);

        len = len > ERROR_LIMIT_BYTES
                  ? tl__utf8_cut(message, ERROR_LIMIT_BYTES + 1, ERROR_LIMIT_BYTES)
                  : len;
        copy = strndup(message, len);
        if (copy == NULL)
            return;
        if (!tl__utf8_is_valid(copy, len)) {
            for (size_t i = 0; i < len; i++) {
                if ((unsigned char)copy[i] >= 0x80)
                    copy[i] = '?';
            }
        }
    }
    free(d->error);
    d->error = copy;
}

void tl_delivery_set_retry_after(tl_delivery *d, uint64_t delay_us)
{
    d->retry_after_us = delay_us > INT64_MAX ? INT64_MAX : delay_us;
}

void tl_delivery_set_retry_wish(tl_delivery *d, uint64_t delay_us)
{
    d->retry_wish_us = delay_us > INT64_MAX ? INT64_MAX : delay_us;
}

void tl_delivery_set_retry_floor(tl_delivery *d, uint64_t delay_us)
{
    d->retry_floor_us = delay_us > INT64_MAX ? INT64_MAX : delay_us;
}

void tl_delivery_complete(tl_delivery *d, tl_verdict verdict)
{
    struct tl_worker *w = d->lease->route->worker;
    uint64_t one = 1;

    if (d->is_complete || verdict == TL_PENDING)
        return;
    d->is_complete = true;
    d->verdict = verdict;
    if (!d->is_pending)
        return; /* the handler has not returned yet: the dispatcher looks */
    if (w->completed == NULL && write(w->wake_fd, &one, sizeof one) < 0) {
        /* full: it is readable already */
    }
    d->next = w->completed;
    w->completed = d;
}
