/*
 * subscriptions.h: a list of what there is to serve, as control.c finds it and lanes take it.
 */
#ifndef TL_SERVER_SUBSCRIPTIONS_H
#define TL_SERVER_SUBSCRIPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tl__attempt_log { TL__LOG_ALL, TL__LOG_FAILURES, TL__LOG_NONE };

struct tl__subscription {
    int64_t id;
    char *name, *target;
    char *call; /* of a sql: target: the statement that calls it; NULL: no such function */
    char *role; /* whose rights the call has; "": the daemon's; NULL: it may not have them */
    uint64_t timeout_us;  /* of an attempt; 0: the daemon's */
    uint32_t concurrency; /* 0: the daemon's */
    /* Of webhooks: see struct tl__sink_target. */
    char *secrets, *headers, *format;
    enum tl__attempt_log log;
    uint32_t breaker_failures; /* in a row that open the breaker; 0: never */
    /* State of the endpoint as all daemons know it. */
    uint32_t failures;
    bool is_open;  /* the breaker, or its pause is over and another daemon tries */
    bool is_probe; /* its pause is over and this daemon may try */
};

struct tl__subscription_list {
    size_t count;
    struct tl__subscription *items;
    uint64_t journal_seq; /* entries of the journal up to here are in the states above */
};

/* Deep copy; NULL: no memory. */
struct tl__subscription_list *tl__subscription_list_dup(const struct tl__subscription_list *list);
struct tl__subscription_list *tl__subscription_list_free(struct tl__subscription_list *list);
/* Free the text in it. */
void tl__subscription_done(struct tl__subscription *s);
/* The same target with the same settings? The state of the endpoint does not count. */
bool tl__subscription_is_same(const struct tl__subscription *a, const struct tl__subscription *b);

#endif
