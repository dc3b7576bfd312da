/*
 * schedule.h: in what order the deliveries of one lease may start. It knows indexes and keys, no
 * events, no handlers, no database. Used by the worker; unit-tested alone.
 *
 *   total  one at a time, in order
 *   key    no two of one key at once, those of a key in order; without a key: free
 *   none   free
 */
#ifndef TL_SCHEDULE_H
#define TL_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <trunkline/trunkline.h>

#define TL__SCHEDULE_NONE UINT32_MAX

struct tl__schedule {
    uint32_t count;
    tl_ordering ordering;
    uint32_t settled;            /* every index below it has finished */
    uint32_t started;            /* one more than the highest index that ever started */
    uint32_t running;            /* started and not finished */
    uint32_t finished;           /* finished or deferred, in any order */
    uint32_t scan;               /* no index below it can start */
    uint8_t *states;             /* count of enum in schedule.c */
    uint32_t *next_of_key;       /* key only, made when first needed: next index of the same key */
    struct tl__schedule *behind; /* goes on where this one ends; its index i is count + i here */
};

/* The key of an index, NULL for none. */
typedef const char *(*tl__schedule_key_fn)(const void *context, uint32_t index);

/* False: no memory. */
bool tl__schedule_init(struct tl__schedule *s, uint32_t count, tl_ordering ordering);
void tl__schedule_done(struct tl__schedule *s);

/* The lowest index below `limit` that may start now, or TL__SCHEDULE_NONE. */
uint32_t tl__schedule_peek(struct tl__schedule *s, uint32_t limit);

/*
 * Index i starts. While nothing of the lease is running nobody can be in its way, so a handler that
 * returns at once costs no look at keys: call tl__schedule_hold() only when it stays in flight.
 */
void tl__schedule_start(struct tl__schedule *s, uint32_t i);
/* A delivery stays in flight: from now on keys count. False: no memory; the lease then goes one at
 * a time, which is always right. */
bool tl__schedule_hold(struct tl__schedule *s, tl__schedule_key_fn key, const void *context);
void tl__schedule_finish(struct tl__schedule *s, uint32_t i);
/*
 * Index i failed, and what lies behind it in its key has to wait until it is tried again: those are
 * deferred, that is finished without a start; *ret_deferred: how many. False: keys cannot tell them
 * apart (no order by key, no memory): nothing behind i may start.
 */
bool tl__schedule_block(struct tl__schedule *s, uint32_t i, tl__schedule_key_fn key,
                        const void *context, uint32_t *ret_deferred);
/*
 * `behind`, of which nothing has started, goes on where s ends: what it has of a key waits for that
 * of s, and is deferred with it, at once if an index of s has failed already. False: no memory, or no
 * order by key: nothing of `behind` may start before s has ended and what failed of it is settled.
 */
bool tl__schedule_follow(struct tl__schedule *s, struct tl__schedule *behind,
                         tl__schedule_key_fn key, const void *context, const void *behind_context);
/* The two go on without each other. */
void tl__schedule_part(struct tl__schedule *s);
bool tl__schedule_is_deferred(const struct tl__schedule *s, uint32_t i);
/* Index i started but did not run: it may start again later. */
void tl__schedule_undo(struct tl__schedule *s, uint32_t i);

#endif
