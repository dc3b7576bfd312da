/*
 * subscriptions.c: see subscriptions.h.
 */
#include "subscriptions.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "str.h"

/* Which members are text. */
static const size_t texts[] = {
    offsetof(struct tl__subscription, name),    offsetof(struct tl__subscription, target),
    offsetof(struct tl__subscription, call),    offsetof(struct tl__subscription, role),
    offsetof(struct tl__subscription, secrets), offsetof(struct tl__subscription, headers),
    offsetof(struct tl__subscription, format),
};
enum { TEXTS = sizeof texts / sizeof *texts };

static char **text_of(struct tl__subscription *s, size_t i)
{
    return (char **)(void *)((char *)s + texts[i]);
}

struct tl__subscription_list *tl__subscription_list_dup(const struct tl__subscription_list *list)
{
    struct tl__subscription_list *copy = calloc(1, sizeof *copy);

    if (copy)
        copy->items = calloc(list->count + 1, sizeof *copy->items);
    if (!copy || !copy->items)
        return tl__subscription_list_free(copy);
    copy->journal_seq = list->journal_seq;
    for (; copy->count < list->count; copy->count++) {
        struct tl__subscription *to = &copy->items[copy->count];
        bool is_whole = true;
        *to = list->items[copy->count];
        for (size_t i = 0; i < TEXTS; i++) {
            char **text = text_of(to, i);
            const char *from = *text;
            *text = from ? strdup(from) : NULL;
            is_whole = is_whole && !from == !*text;
        }
        if (!is_whole) {
            copy->count++;
            return tl__subscription_list_free(copy);
        }
    }
    return copy;
}

void tl__subscription_done(struct tl__subscription *s)
{
    if (s->secrets)
        explicit_bzero(s->secrets, strlen(s->secrets));
    for (size_t i = 0; i < TEXTS; i++)
        free(*text_of(s, i));
    *s = (struct tl__subscription){0};
}

struct tl__subscription_list *tl__subscription_list_free(struct tl__subscription_list *list)
{
    if (!list)
        return NULL;
    for (size_t i = 0; i < list->count; i++)
        tl__subscription_done(&list->items[i]);
    free(list->items);
    free(list);
    return NULL;
}

bool tl__subscription_is_same(const struct tl__subscription *a, const struct tl__subscription *b)
{
    struct tl__subscription x = *a, y = *b; /* for the members' addresses */

    for (size_t i = 0; i < TEXTS; i++)
        if (!tl__str_equal(*text_of(&x, i), *text_of(&y, i)))
            return false;
    return a->id == b->id && a->timeout_us == b->timeout_us && a->concurrency == b->concurrency &&
           a->log == b->log && a->breaker_failures == b->breaker_failures;
}
