/*
 * callers.c: see callers.h.
 */
#include "callers.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "process.h"

static const uint64_t SECOND_NS = 1000000000u, SLICE_NS = 50000000u;

struct shared {
    const struct tl__callers_run *run;
    uint64_t start_ns, end_ns, give_up_ns;
    double gap_ns;  /* open loop */
    uint64_t total; /* calls of the open loop */
    atomic_uint_fast64_t next;
    atomic_bool is_failed;
};

struct thread {
    pthread_t id;
    bool is_started;
    struct shared *shared;
    const struct tl__caller *caller;
    uint64_t count, late;
    struct tl__histogram *times;
};

uint64_t tl__clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

void tl__sleep_until_ns(uint64_t at_ns)
{
    struct timespec ts = {.tv_sec = (time_t)(at_ns / SECOND_NS),
                          .tv_nsec = (long)(at_ns % SECOND_NS)};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR) {
    }
}

static bool is_over(const struct shared *s)
{
    return atomic_load_explicit(&s->is_failed, memory_order_relaxed) ||
           (s->run->cancel && atomic_load_explicit(s->run->cancel, memory_order_relaxed));
}

static bool call(struct thread *t, uint64_t due_ns)
{
    if (!t->caller->call(t->caller->context, due_ns)) {
        atomic_store(&t->shared->is_failed, true);
        return false;
    }
    t->count++;
    if (t->times)
        tl__histogram_add(t->times, tl__clock_ns() - due_ns, 1);
    return true;
}

static void run_closed(struct thread *t)
{
    uint64_t now_ns = tl__clock_ns();

    while (!is_over(t->shared) && call(t, now_ns)) {
        now_ns = tl__clock_ns();
        if (now_ns >= t->shared->end_ns)
            break;
    }
}

/* False: the run is over before then. */
static bool wait_due(const struct shared *s, uint64_t due_ns)
{
    uint64_t now_ns;

    while ((now_ns = tl__clock_ns()) < due_ns) {
        if (is_over(s))
            return false;
        tl__sleep_until_ns(due_ns - now_ns > SLICE_NS ? now_ns + SLICE_NS : due_ns);
    }
    return !is_over(s);
}

static void run_open(struct thread *t)
{
    struct shared *s = t->shared;
    uint64_t i, now_ns;

    while ((i = atomic_fetch_add(&s->next, 1)) < s->total) {
        uint64_t due_ns = s->start_ns + (uint64_t)((double)i * s->gap_ns);
        if (!wait_due(s, due_ns))
            break;
        if ((now_ns = tl__clock_ns()) < s->give_up_ns) {
            if (!call(t, due_ns))
                break;
            continue;
        }
        t->late++;
        if (t->times)
            tl__histogram_add(t->times, now_ns - due_ns, 1);
    }
}

static void *run_thread(void *context)
{
    struct thread *t = context;

    if (t->shared->run->per_s > 0)
        run_open(t);
    else
        run_closed(t);
    return NULL;
}

static void start(struct thread *t, struct shared *s, const struct tl__caller *caller,
                  bool is_timed)
{
    *t = (struct thread){.shared = s, .caller = caller};
    if (is_timed)
        t->times = calloc(1, sizeof *t->times);
    t->is_started = (t->times || !is_timed) && pthread_create(&t->id, NULL, run_thread, t) == 0;
    if (!t->is_started)
        atomic_store(&s->is_failed, true);
}

struct tl__calls tl__callers_run(const struct tl__caller *callers, int n,
                                 const struct tl__callers_run *run, struct tl__histogram *times)
{
    struct tl__calls calls = {0};
    struct shared s = {.run = run, .start_ns = tl__clock_ns()};
    uint64_t cpu_ns = tl__own_cpu_ns();
    struct thread *threads = calloc((size_t)n, sizeof *threads);

    s.end_ns = s.start_ns + (uint64_t)(run->seconds * 1e9);
    s.give_up_ns = s.end_ns + (uint64_t)(run->seconds * 1e9);
    if (run->per_s > 0) {
        s.gap_ns = 1e9 / run->per_s;
        s.total = (uint64_t)(run->seconds * run->per_s + 0.5);
        s.total = s.total ? s.total : 1;
    }
    if (!threads)
        return calls;
    for (int i = 0; i < n; i++)
        start(&threads[i], &s, &callers[i], times != NULL);
    for (int i = 0; i < n; i++) {
        if (threads[i].is_started)
            pthread_join(threads[i].id, NULL);
        calls.count += threads[i].count;
        calls.late += threads[i].late;
        if (times && threads[i].times)
            tl__histogram_merge(times, threads[i].times);
        free(threads[i].times);
    }
    free(threads);
    calls.elapsed_ns = tl__clock_ns() - s.start_ns;
    calls.cpu_ns = tl__own_cpu_ns() - cpu_ns;
    calls.is_ok = !atomic_load(&s.is_failed);
    return calls;
}
