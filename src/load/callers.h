/*
 * callers.h: blocking calls by many threads, each with something of its own to call, timed.
 *
 * Closed loop: each thread calls again as soon as it has its answer; a time begins with the call.
 * Open loop: calls fall due at a steady rate, whatever the answers do, and the next free thread
 * makes the next call. A time begins when the call was due, so a call that had to wait for a thread
 * has waited (no coordinated omission).
 *
 * Any folder may use it.
 */
#ifndef TL_CALLERS_H
#define TL_CALLERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "histogram.h"

struct tl__caller {
    void *context;
    /* due_ns: when its time began, on tl__clock_ns(). False ends the run. */
    bool (*call)(void *context, uint64_t due_ns);
};

struct tl__callers_run {
    double seconds;
    double per_s;              /* calls due in a second; 0: closed loop */
    const atomic_bool *cancel; /* ends the run early; NULL: nothing does */
};

struct tl__calls {
    uint64_t count; /* that returned true */
    /* Open loop: still not begun when twice the time was over, and not made. Their times so far are
     * in the histogram. */
    uint64_t late;
    uint64_t elapsed_ns; /* until the last answer */
    uint64_t cpu_ns;     /* of this process */
    bool is_ok;          /* no call returned false */
};

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t tl__clock_ns(void);
void tl__sleep_until_ns(uint64_t at_ns);
/* `times` may be NULL; what is in it stays. */
struct tl__calls tl__callers_run(const struct tl__caller *callers, int n,
                                 const struct tl__callers_run *run, struct tl__histogram *times);

#endif
