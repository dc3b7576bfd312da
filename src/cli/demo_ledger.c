/*
 * demo_ledger.c: see demo_ledger.h.
 */
#include "demo_ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <trunkline/trunkline.h>

static void *grow(void *items, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return items;
    *room = *room ? *room * 2 : 1024;
    items = realloc(items, *room * size);
    if (!items)
        abort(); /* a demo of a few thousand events */
    return items;
}

void tl__demo_ledger_published(struct tl__demo_ledger *l, int64_t position,
                               const struct tl__demo_event *event, uint64_t at_us, bool is_paced)
{
    pthread_mutex_lock(&l->lock);
    l->published = grow(l->published, l->count, &l->room, sizeof *l->published);
    l->published[l->count++] = (struct tl__demo_published){position, event, at_us, is_paced};
    pthread_mutex_unlock(&l->lock);
}

void tl__demo_ledger_received(struct tl__demo_ledger *l, int channel, int64_t position,
                              uint64_t at_us, int64_t latency_us)
{
    struct tl__demo_channel *c = &l->channels[channel];

    pthread_mutex_lock(&l->lock);
    c->received = grow(c->received, c->count, &c->room, sizeof *c->received);
    c->received[c->count++] = (struct tl__demo_received){position, at_us, latency_us};
    pthread_mutex_unlock(&l->lock);
}

size_t tl__demo_ledger_published_count(struct tl__demo_ledger *l)
{
    pthread_mutex_lock(&l->lock);
    size_t count = l->count;
    pthread_mutex_unlock(&l->lock);
    return count;
}

/* Published in order of position: one publisher. With the lock held. */
static const struct tl__demo_published *find(const struct tl__demo_ledger *l, int64_t position)
{
    size_t low = 0, high = l->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (l->published[middle].position < position)
            low = middle + 1;
        else
            high = middle;
    }
    return low < l->count && l->published[low].position == position ? &l->published[low] : NULL;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

void tl__demo_ledger_summary(struct tl__demo_ledger *l, int channel, struct tl__demo_summary *ret)
{
    const struct tl__demo_channel *c = &l->channels[channel];

    *ret = (struct tl__demo_summary){.p50_us = -1, .p99_us = -1};
    pthread_mutex_lock(&l->lock);
    int64_t *latencies = calloc(c->count + 1, sizeof *latencies);
    size_t n = 0;
    for (size_t i = 0; i < l->count; i++)
        ret->selected += tl_pattern_matches(c->pattern, l->published[i].event->type);
    for (size_t i = 0; latencies && i < c->count; i++) {
        const struct tl__demo_received *r = &c->received[i];
        const struct tl__demo_published *p = find(l, r->position);
        if (p && p->is_paced)
            latencies[n++] = r->latency_us >= 0 ? r->latency_us : (int64_t)(r->at_us - p->at_us);
    }
    ret->delivered = c->count;
    pthread_mutex_unlock(&l->lock);
    if (n > 0) {
        qsort(latencies, n, sizeof *latencies, compare);
        ret->p50_us = latencies[(n - 1) / 2];
        ret->p99_us = latencies[(n - 1) * 99 / 100];
    }
    free(latencies);
}

bool tl__demo_ledger_check(struct tl__demo_ledger *l, int channel, char *ret_why, size_t size)
{
    const struct tl__demo_channel *c = &l->channels[channel];
    size_t n = 0;
    bool is_right = true;

    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < l->count && is_right; i++) {
        const struct tl__demo_published *p = &l->published[i];
        if (!tl_pattern_matches(c->pattern, p->event->type))
            continue;
        if (n >= c->count) {
            snprintf(ret_why, size, "%s never received position %lld", c->subscription,
                     (long long)p->position);
            is_right = false;
        } else if (c->received[n].position != p->position) {
            snprintf(ret_why, size, "%s received position %lld where %lld was next",
                     c->subscription, (long long)c->received[n].position, (long long)p->position);
            is_right = false;
        }
        n++;
    }
    if (is_right && n < c->count) {
        snprintf(ret_why, size, "%s received %zu events too many", c->subscription, c->count - n);
        is_right = false;
    }
    pthread_mutex_unlock(&l->lock);
    return is_right;
}

/* ------------------------------------------------------------------------------- open issues -- */

struct issue {
    const char *repository;
    int64_t number;
    bool is_open;
};

static struct tl__demo_repository *repository_of(struct tl__demo_repository *all, size_t *count,
                                                 size_t max, const char *name)
{
    for (size_t i = 0; i < *count; i++)
        if (strcmp(all[i].name, name) == 0)
            return &all[i];
    if (*count == max)
        return NULL;
    all[*count] = (struct tl__demo_repository){.name = name};
    return &all[(*count)++];
}

size_t tl__demo_ledger_open_issues(struct tl__demo_ledger *l, const char *pattern,
                                   struct tl__demo_repository *ret, size_t max)
{
    struct issue issues[64];
    size_t issue_count = 0, count = 0;

    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < l->count; i++) {
        const struct tl__demo_event *e = l->published[i].event;
        size_t k = 0;
        if (!tl_pattern_matches(pattern, e->type) || !e->repository)
            continue;
        struct tl__demo_repository *r = repository_of(ret, &count, max, e->repository);
        while (k < issue_count &&
               (issues[k].number != e->issue || strcmp(issues[k].repository, e->repository) != 0))
            k++;
        if (!r || k == sizeof issues / sizeof *issues)
            continue; /* the data set has three issues */
        if (k == issue_count)
            issues[issue_count++] = (struct issue){e->repository, e->issue, false};
        r->open += e->is_open - issues[k].is_open;
        r->events++;
        issues[k].is_open = e->is_open;
    }
    pthread_mutex_unlock(&l->lock);
    return count;
}

void tl__demo_ledger_done(struct tl__demo_ledger *l)
{
    for (int i = 0; i < TL__DEMO_CHANNELS; i++)
        free(l->channels[i].received);
    free(l->published);
    pthread_mutex_destroy(&l->lock);
}
