/*
 * schedule.c: see schedule.h. A delivery waits only for its predecessor of the same key, so chains
 * of indexes say everything; they are built on the first delivery that stays in flight, or fails
 * and blocks its key.
 */
#include "schedule.h"

#include <stdlib.h>
#include <string.h>

enum { FRESH, BLOCKED, RUNNING, FINISHED, DEFERRED, FAILED };

bool tl__schedule_init(struct tl__schedule *s, uint32_t count, tl_ordering ordering)
{
    *s = (struct tl__schedule){.ordering = ordering};
    s->states = calloc(count > 0 ? count : 1, 1);
    if (s->states == NULL)
        return false;
    s->count = count;
    return true;
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
        if (k == NULL || s->states[i] >= FINISHED)
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

static void advance(struct tl__schedule *s)
{
    while (s->settled < s->count && s->states[s->settled] >= FINISHED)
        s->settled++;
}

static void unblock(struct tl__schedule *s, uint32_t i)
{
    s->states[i] = FRESH;
    if (i < s->scan)
        s->scan = i;
}

static void end(struct tl__schedule *s, uint32_t i, uint8_t state)
{
    s->states[i] = state;
    s->running--;
    s->finished++;
    advance(s);
}

void tl__schedule_finish(struct tl__schedule *s, uint32_t i)
{
    uint32_t next = s->next_of_key != NULL ? s->next_of_key[i] : TL__SCHEDULE_NONE;

    end(s, i, FINISHED);
    if (next == TL__SCHEDULE_NONE)
        return;
    if (next < s->count)
        unblock(s, next);
    else if (s->behind != NULL)
        unblock(s->behind, next - s->count);
}

/* A key from its first index on: none of them runs. Returns how it goes on behind s. */
static uint32_t defer(struct tl__schedule *s, uint32_t i)
{
    while (i < s->count) {
        s->states[i] = DEFERRED;
        s->finished++;
        i = s->next_of_key[i];
    }
    advance(s);
    return i;
}

bool tl__schedule_block(struct tl__schedule *s, uint32_t i, tl__schedule_key_fn key,
                        const void *context, uint32_t *ret_deferred)
{
    uint32_t finished = s->finished;
    uint32_t next;

    *ret_deferred = 0;
    if (s->ordering != TL_ORDERING_KEY || (s->next_of_key == NULL && !link_keys(s, key, context))) {
        tl__schedule_finish(s, i);
        return false;
    }
    next = defer(s, s->next_of_key[i]);
    if (next != TL__SCHEDULE_NONE && s->behind != NULL)
        (void)defer(s->behind, next - s->count);
    s->next_of_key[i] = TL__SCHEDULE_NONE;
    *ret_deferred = s->finished - finished;
    end(s, i, FAILED);
    return true;
}

/* The last unfinished or failed index of each key of s, by hash; NULL: no memory. */
static uint32_t *table_of_last(const struct tl__schedule *s, tl__schedule_key_fn key,
                               const void *context, uint32_t *ret_size)
{
    uint32_t size = 16;
    uint32_t *table;

    while (size < s->count * 2)
        size *= 2;
    table = malloc(size * sizeof *table);
    if (table == NULL)
        return NULL;
    memset(table, 0xff, size * sizeof *table);
    for (uint32_t i = 0; i < s->count; i++) {
        const char *k = s->states[i] == FINISHED ? NULL : key(context, i);
        uint32_t h;

        if (k == NULL)
            continue;
        h = hash_text(k) & (size - 1);
        while (table[h] != TL__SCHEDULE_NONE && strcmp(key(context, table[h]), k) != 0)
            h = (h + 1) & (size - 1);
        table[h] = i;
    }
    *ret_size = size;
    return table;
}

bool tl__schedule_follow(struct tl__schedule *s, struct tl__schedule *behind,
                         tl__schedule_key_fn key, const void *context, const void *behind_context)
{
    uint32_t *table;
    uint32_t size;

    if (s->ordering != TL_ORDERING_KEY || behind->ordering != TL_ORDERING_KEY ||
        (s->next_of_key == NULL && !link_keys(s, key, context)) ||
        (behind->next_of_key == NULL && !link_keys(behind, key, behind_context)))
        return false;
    table = table_of_last(s, key, context, &size);
    if (table == NULL)
        return false;
    s->behind = behind;
    for (uint32_t j = 0; j < behind->count; j++) {
        const char *k = behind->states[j] == FRESH ? key(behind_context, j) : NULL;
        uint32_t h;
        uint32_t last;

        if (k == NULL)
            continue;
        h = hash_text(k) & (size - 1);
        while (table[h] != TL__SCHEDULE_NONE && strcmp(key(context, table[h]), k) != 0)
            h = (h + 1) & (size - 1);
        last = table[h];
        if (last == TL__SCHEDULE_NONE)
            continue;
        if (s->states[last] >= FINISHED) {
            (void)defer(behind, j);
        } else {
            s->next_of_key[last] = s->count + j;
            behind->states[j] = BLOCKED;
        }
    }
    free(table);
    return true;
}

void tl__schedule_part(struct tl__schedule *s)
{
    s->behind = NULL;
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
