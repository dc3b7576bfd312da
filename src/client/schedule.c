/*
 * schedule.c: see schedule.h. A delivery waits only for its predecessor of the same key, so chains
 * of indexes say everything; they are built on the first delivery that stays in flight, or fails
 * and blocks its key.
 */
#include "schedule.h"

#include <stdlib.h>
#include <string.h>

enum { FRESH, BLOCKED, RUNNING, FINISHED, DEFERRED };

bool tl__schedule_init(struct tl__schedule *s, uint32_t count, tl_ordering ordering)
{
    *s = (struct tl__schedule){.count = count, .ordering = ordering};
    s->states = calloc(count > 0 ? count : 1, 1);
    return s->states != NULL;
}

void tl__schedule_done(struct tl__schedule *s)
{
    free(s->states);
    free(s->next_of_key);
    *s = (struct tl__schedule){0};
}

uint32_t tl__schedule_peek(struct tl__schedule *s, uint32_t limit)
{
    if (limit > s->count)
        limit = s->count;
    if (s->ordering == TL_ORDERING_TOTAL && s->running > 0)
        return TL__SCHEDULE_NONE;
    while (s->scan < s->count && s->states[s->scan] != FRESH)
        s->scan++;
    return s->scan < limit ? s->scan : TL__SCHEDULE_NONE;
}

void tl__schedule_start(struct tl__schedule *s, uint32_t i)
{
    s->states[i] = RUNNING;
    s->running++;
    if (i >= s->started)
        s->started = i + 1;
}

static uint32_t hash_text(const char *text)
{
    uint32_t h = 2166136261u;

    for (; *text != '\0'; text++)
        h = (h ^ (unsigned char)*text) * 16777619u;
    return h;
}

/*
 * Link each unfinished index to the next of its key and block those whose predecessor is not
 * finished. The table remembers the last index seen of each key.
 */
static bool link_keys(struct tl__schedule *s, tl__schedule_key_fn key, const void *context)
{
    uint32_t size = 16;
    uint32_t *table;

    while (size < s->count * 2)
        size *= 2;
    s->next_of_key = malloc(s->count * sizeof *s->next_of_key);
    table = malloc(size * sizeof *table);
    if (s->next_of_key == NULL || table == NULL) {
        free(table);
        free(s->next_of_key);
        s->next_of_key = NULL;
        return false;
    }
    memset(table, 0xff, size * sizeof *table);
    for (uint32_t i = 0; i < s->count; i++) {
        const char *k = key(context, i);
        uint32_t h;

        s->next_of_key[i] = TL__SCHEDULE_NONE;
        if (k == NULL || s->states[i] == FINISHED)
            continue;
        h = hash_text(k) & (size - 1);
        while (table[h] != TL__SCHEDULE_NONE && strcmp(key(context, table[h]), k) != 0)
            h = (h + 1) & (size - 1);
        if (table[h] != TL__SCHEDULE_NONE) {
            s->next_of_key[table[h]] = i;
            if (s->states[i] == FRESH)
                s->states[i] = BLOCKED;
        }
        table[h] = i;
    }
    free(table);
    return true;
}

bool tl__schedule_hold(struct tl__schedule *s, tl__schedule_key_fn key, const void *context)
{
    if (s->ordering != TL_ORDERING_KEY || s->next_of_key != NULL)
        return true;
    if (link_keys(s, key, context))
        return true;
    s->ordering = TL_ORDERING_TOTAL;
    return false;
}

void tl__schedule_finish(struct tl__schedule *s, uint32_t i)
{
    s->states[i] = FINISHED;
    s->running--;
    s->finished++;
    if (s->next_of_key != NULL && s->next_of_key[i] != TL__SCHEDULE_NONE) {
        uint32_t next = s->next_of_key[i];

        s->states[next] = FRESH;
        if (next < s->scan)
            s->scan = next;
    }
    while (s->settled < s->count && s->states[s->settled] >= FINISHED)
        s->settled++;
}

bool tl__schedule_block(struct tl__schedule *s, uint32_t i, tl__schedule_key_fn key,
                        const void *context, uint32_t *ret_deferred)
{
    uint32_t count = 0;

    *ret_deferred = 0;
    if (s->ordering != TL_ORDERING_KEY || (s->next_of_key == NULL && !link_keys(s, key, context))) {
        tl__schedule_finish(s, i);
        return false;
    }
    for (uint32_t n = s->next_of_key[i]; n != TL__SCHEDULE_NONE; n = s->next_of_key[n]) {
        s->states[n] = DEFERRED; /* they wait for i: none of them runs */
        count++;
    }
    s->next_of_key[i] = TL__SCHEDULE_NONE;
    s->finished += count;
    tl__schedule_finish(s, i);
    *ret_deferred = count;
    return true;
}

bool tl__schedule_is_deferred(const struct tl__schedule *s, uint32_t i)
{
    return s->states[i] == DEFERRED;
}

void tl__schedule_undo(struct tl__schedule *s, uint32_t i)
{
    s->states[i] = FRESH;
    s->running--;
    if (i < s->scan)
        s->scan = i;
}
