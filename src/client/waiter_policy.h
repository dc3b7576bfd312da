/*
 * waiter_policy.h: the doorbell protocol as a state machine: what happened and the clock go in,
 * what to send next and when to look again come out. No sockets, no SQL, no memory of its own.
 * Used by waiter.c for workers and tl_client_wait; unit-tested with a clock of its own.
 *
 * Roles: the sentinel looks for events in naps while many flow and has the bell armed else;
 * everybody else sleeps until notified. Who hears no notifications polls.
 */
#ifndef TL_WAITER_POLICY_H
#define TL_WAITER_POLICY_H

#include <stdbool.h>
#include <stdint.h>

/* What to send; in this order, as one pipeline, each a transaction of its own. */
enum tl__waiter_action {
    TL__WAITER_RELEASE = 1 << 0, /* be sentinel no more */
    TL__WAITER_ELECT = 1 << 1,   /* try to become sentinel */
    TL__WAITER_PROBE = 1 << 2,   /* notify oneself */
    TL__WAITER_WAKE = 1 << 3,    /* notify the other listeners */
    TL__WAITER_ARM = 1 << 4,     /* the bell: publishers must ring */
    TL__WAITER_TICK = 1 << 5,    /* look for events; always behind ARM: that order is the proof */
    /* the bell: publishers need not ring, there are too many of them; the event that rang waits for
     * TICK, and another look follows */
    TL__WAITER_DISARM = 1 << 6,
    TL__WAITER_DUE = 1 << 7, /* when is the next retry or lease expiry due */
    /* alone, and TICK follows its answer: it rang for few events, which may be had by less than a look */
    TL__WAITER_NEXT = 1 << 8,
};

struct tl__waiter_policy {
    uint64_t poll_interval_us;
    uint64_t random; /* state of the jitter */
    bool can_listen; /* false: poll only */

    bool is_connected;
    bool is_busy; /* sent, not all answered */
    bool is_listening;
    bool is_sentinel;
    bool is_armed;

    bool is_rung;       /* while armed, and not looked for yet */
    bool is_tick_rung;  /* what the tick on its way looks for */
    bool is_next_tried; /* since it rang: now a look */
    bool is_tick_wanted;
    bool is_disarm_wanted;
    bool is_release_wanted;
    bool is_wake_wanted;
    bool is_new_sentinel; /* others may have missed events before the election */
    bool is_probing;
    bool is_due_known;  /* due_at_us is of after the last tick */
    bool is_deaf;       /* a probe was lost; kept over reconnects */
    bool has_gone_deaf; /* set when notifications stop; for one line of log; the reader clears it */
    bool is_activity_known;
    bool is_quiet;    /* the last look found nothing new */
    bool has_stalled; /* why it wants to be released */

    int64_t activity;
    uint64_t others; /* other listeners at the last tick */
    uint64_t last_rows;
    uint64_t nap_us;
    uint32_t arm_failures;
    uint64_t quiet_since_us;
    uint64_t rings_until_us; /* so long what has rung uses up what may ring */
    uint64_t due_at_us;
    uint64_t due_ask_us; /* not earlier */
    uint64_t tick_sent_us;
    uint64_t next_tick_us;
    uint64_t next_elect_us;
    uint64_t last_elect_us;
    uint64_t next_probe_us;
    uint64_t probe_until_us;
    uint64_t next_wake_us;
    uint64_t last_next_us; /* when next() was called last */
};

void tl__waiter_policy_init(struct tl__waiter_policy *p, uint64_t poll_interval_us, bool can_listen,
                            uint64_t seed);

/* What happened. */
void tl__waiter_policy_connected(struct tl__waiter_policy *p, uint64_t now_us);
void tl__waiter_policy_disconnected(struct tl__waiter_policy *p);
void tl__waiter_policy_notified(struct tl__waiter_policy *p, uint64_t now_us);
void tl__waiter_policy_probed(struct tl__waiter_policy *p, uint64_t now_us);
/* The owner wants a tick now: it has room for events again. */
void tl__waiter_policy_want_tick(struct tl__waiter_policy *p);
/* The sentinel awake looks again by itself, soon: nobody needs to want it. */
bool tl__waiter_policy_is_awake(const struct tl__waiter_policy *p);
/* The owner goes away for a while: hand the sentinel's duty to somebody else, awake. */
void tl__waiter_policy_leave(struct tl__waiter_policy *p);

/* Answers to what next() gave. */
void tl__waiter_policy_elected(struct tl__waiter_policy *p, bool is_elected);
void tl__waiter_policy_armed(struct tl__waiter_policy *p, bool is_armed);
/* is_held: something is in the log that is not readable yet, or may be. true: something became
 * readable since the last tick, or it is the first of a connection. */
bool tl__waiter_policy_ticked(struct tl__waiter_policy *p, uint64_t now_us, int64_t activity,
                              bool is_held, uint64_t others, uint64_t rows);
void tl__waiter_policy_due(struct tl__waiter_policy *p, uint64_t now_us, int64_t due_us);
/* Everything of the pipeline was answered. */
void tl__waiter_policy_answered(struct tl__waiter_policy *p);

/* What to send now, 0 for nothing. Other than 0: is_busy until _answered(). */
unsigned tl__waiter_policy_next(struct tl__waiter_policy *p, uint64_t now_us);
/* When next() will have something unless something happens; UINT64_MAX while busy or without a
 * connection; 0 for now. */
uint64_t tl__waiter_policy_deadline_us(const struct tl__waiter_policy *p);

#endif
