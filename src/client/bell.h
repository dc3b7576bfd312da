/*
 * bell.h: one asynchronous connection that takes part in the doorbell protocol: connects, listens,
 * looks for events when waiter_policy.h says so, reconnects. Its owner (worker.c, waiter.c) says
 * what to claim and may put statements of its own into the same pipeline. Never blocks, but for a
 * name look-up inside libpq. Not for anybody else.
 */
#ifndef TL_BELL_H
#define TL_BELL_H

#include "internal.h"
#include "waiter_policy.h"

struct tl__bell;

/* What an owner brings. `owner` is the pointer given to tl__bell_new(). None may free the bell. */
struct tl__bell_owner {
    /* A pipeline is about to be written: put your own statements in front. May be NULL. */
    void (*before)(void *owner);
    /* Parameters $1 subscriptions, $2 capacities, $3 lease, $4 owner, $5 ranges of claim_live, those of
     * next_due ($1). Borrowed until the call returns. NULL: claims nothing, has nothing due. */
    void (*claim_params)(void *owner, struct tl__params *p);
    void (*due_params)(void *owner, struct tl__params *p);
    /* It rang: a statement, with its parameters, that claims what is expected, before anything is looked for;
     * NULL: none. It is prepared on this connection. next_done() gets the answer, as tl__bell_answer_fn does. */
    struct tl__statement *(*next)(void *owner, struct tl__params *p);
    void (*next_done)(void *owner, const PGresult *res);
    /* The answer to a claim: rows from 1 on, row 0 is the header. Takes res. */
    void (*claimed)(void *owner, PGresult *res, bool has_changed);
};

/* Answer to one statement of the owner: res is borrowed, NULL when the connection went away before
 * the answer: it may have been executed or not. */
typedef void (*tl__bell_answer_fn)(void *owner, void *arg, const PGresult *res);

struct tl__bell_counts {
    uint64_t ticks, wakes, reconnects;
};

/* Nothing is connected before the first tl__bell_process(). wake_fd: an eventfd that makes
 * tl__bell_fd() readable too; not closed here. */
tl_status tl__bell_new(const struct tl__settings *settings, const struct tl__bell_owner *calls,
                       void *owner, uint64_t poll_interval_us, bool can_listen, int wake_fd,
                       struct tl_error *error, struct tl__bell **ret);
/* Closes without waiting: the server releases locks and LISTEN by itself. */
struct tl__bell *tl__bell_free(struct tl__bell *b);

/* Readable when tl__bell_process() has something to read. Stable for the bell's life. */
int tl__bell_fd(const struct tl__bell *b);
uint64_t tl__bell_deadline_us(const struct tl__bell *b);
/* Connect on, read what came, hand out answers. TL_E_CONNECTION when reconnect_attempts is used up,
 * TL_E_INVALID when the settings can never work. *ret_is_woken: wake_fd was readable (emptied). */
tl_status tl__bell_process(struct tl__bell *b, uint64_t now_us, bool *ret_is_woken);
/* Write what is due. Call it at the end of every round of the owner. */
void tl__bell_write(struct tl__bell *b, uint64_t now_us);

/* Can statements be sent? (connected and set up) */
bool tl__bell_is_ready(const struct tl__bell *b);
/* Counts connections from 1 on; what was prepared on another is not there. 0: sessions are not ours. */
uint64_t tl__bell_session(const struct tl__bell *b);
/* Every statement was answered. */
bool tl__bell_is_idle(const struct tl__bell *b);
/* Queue a statement as a transaction of its own; sent by the next tl__bell_write(). False: not
 * ready; fn is not called then. The statement must outlive the bell. */
bool tl__bell_send(struct tl__bell *b, struct tl__statement *st, const struct tl__params *p,
                   tl__bell_answer_fn fn, void *arg);
/* Inside a tl__bell_answer_fn: keep the result; the caller clears it. */
PGresult *tl__bell_take_result(struct tl__bell *b);
/* Forget an argument of tl__bell_send: its answer is thrown away. */
void tl__bell_forget(struct tl__bell *b, const void *arg);
/* Tell other listeners to look, as soon as it is ready. */
void tl__bell_wake_others(struct tl__bell *b);

/* Sleep until tl__bell_fd() is readable or CLOCK_MONOTONIC microseconds have come. */
void tl__bell_sleep(const struct tl__bell *b, uint64_t until_us);

struct tl__waiter_policy *tl__bell_policy(struct tl__bell *b);
const struct tl__bell_counts *tl__bell_get_counts(const struct tl__bell *b);

#endif
