/*
 * subscriptions.c: see subscriptions.h.
 */
#include "subscriptions.h"

#include <stdlib.h>
#include <string.h>

struct tl__subscription_list *tl__subscription_list_dup(const struct tl__subscription_list *list)
{
    struct tl__subscription_list *copy = calloc(1, sizeof *copy);

    if (copy)
        copy->items = calloc(list->count + 1, sizeof *copy->items);
    if (!copy || !copy->items)
        return tl__subscription_list_free(copy);
    for (; copy->count < list->count; copy->count++) {
        const struct tl__subscription *from = &list->items[copy->count];
        struct tl__subscription *to = &copy->items[copy->count];
        *to = *from;
        to->name = strdup(from->name);
        to->target = strdup(from->target);
        to->call = from->call ? strdup(from->call) : NULL;
        if (!to->name || !to->target || (from->call && !to->call)) {
            copy->count++;
            return tl__subscription_list_free(copy);
        }
    }
    return copy;
}

struct tl__subscription_list *tl__subscription_list_free(struct tl__subscription_list *list)
{
    if (!list)
        return NULL;
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].name);
        free(list->items[i].target);
        free(list->items[i].call);
    }
    free(list->items);
    free(list);
    return NULL;
}
