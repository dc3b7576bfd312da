/*
 * demo_ledger.h: the demo's book: what was published, what each subscription received and when,
 * and whether that is exactly what it should have received. Threads may write at once.
 */
#ifndef TL_CLI_DEMO_LEDGER_H
#define TL_CLI_DEMO_LEDGER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the data set says of one line; type, key and data are borrowed from it. */
struct tl__demo_event {
    char *type, *key;
    const char *data;
    size_t data_len;
    char *repository; /* of an issue event; else NULL */
    int64_t issue;
    bool is_open; /* whether the issue is open after this event */
};

struct tl__demo_published {
    int64_t position;
    const struct tl__demo_event *event;
    uint64_t at_us;
    bool is_paced; /* counts for latency; the first burst does not */
};

struct tl__demo_received {
    int64_t position;
    uint64_t at_us;
    int64_t latency_us; /* measured elsewhere; -1: from at_us */
};

enum { TL__DEMO_CHANNELS = 3 };

struct tl__demo_channel {
    const char *subscription, *target, *pattern;
    struct tl__demo_received *received;
    size_t count, room;
};

struct tl__demo_ledger {
    pthread_mutex_t lock;
    struct tl__demo_published *published;
    size_t count, room;
    struct tl__demo_channel channels[TL__DEMO_CHANNELS];
};

void tl__demo_ledger_published(struct tl__demo_ledger *l, int64_t position,
                               const struct tl__demo_event *event, uint64_t at_us, bool is_paced);
void tl__demo_ledger_received(struct tl__demo_ledger *l, int channel, int64_t position,
                              uint64_t at_us, int64_t latency_us);

struct tl__demo_summary {
    size_t selected, delivered;
    int64_t p50_us, p99_us; /* -1: nothing measured yet */
};
void tl__demo_ledger_summary(struct tl__demo_ledger *l, int channel, struct tl__demo_summary *ret);
size_t tl__demo_ledger_published_count(struct tl__demo_ledger *l);

/* Did the channel receive exactly the events that its pattern selects, once each, in order of
 * position? Else false and why. */
bool tl__demo_ledger_check(struct tl__demo_ledger *l, int channel, char *ret_why, size_t size);

/* The table of open issues as it follows from what was published. */
struct tl__demo_repository {
    const char *name;
    int64_t open, events;
};
/* Returns the number of repositories, at most max. */
size_t tl__demo_ledger_open_issues(struct tl__demo_ledger *l, const char *pattern,
                                   struct tl__demo_repository *ret, size_t max);

void tl__demo_ledger_done(struct tl__demo_ledger *l);

#endif
