/*
 * subscriptions.h: a list of what there is to serve, as control.c finds it and lanes take it.
 */
#ifndef TL_SERVER_SUBSCRIPTIONS_H
#define TL_SERVER_SUBSCRIPTIONS_H

#include <stddef.h>
#include <stdint.h>

struct tl__subscription {
    int64_t id;
    char *name, *target;
    char *call; /* of a sql: target: the statement that calls it; NULL: no such function */
    uint64_t retry_delay_us, retry_cap_us;
};

struct tl__subscription_list {
    size_t count;
    struct tl__subscription *items;
};

/* Deep copy; NULL: no memory. */
struct tl__subscription_list *tl__subscription_list_dup(const struct tl__subscription_list *list);
struct tl__subscription_list *tl__subscription_list_free(struct tl__subscription_list *list);

#endif
