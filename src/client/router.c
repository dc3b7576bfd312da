/*
 * router.c: patterns and their handlers, composed with prefixes. It reaches no database: a worker
 * makes subscriptions of it.
 */
#include "router.h"

#include "internal.h"
#include "str.h"

#include <string.h>

static struct tl__router_entry *entry_free(struct tl__router_entry *e)
{
    if (e != NULL) {
        free(e->pattern);
        free(e->name);
        free((char *)(uintptr_t)e->subscribe.topic);
        free((char *)(uintptr_t)e->subscribe.tenant_id);
        free((char *)(uintptr_t)e->subscribe.filter);
        free((char *)(uintptr_t)e->subscribe.filter_path);
        free((char *)(uintptr_t)e->subscribe.target_options);
        free((uint64_t *)(uintptr_t)e->subscribe.retry_schedule);
        free(e);
    }
    return NULL;
}

static void entries_free(struct tl__router_entry *e)
{
    while (e != NULL) {
        struct tl__router_entry *next = e->next;

        entry_free(e);
        e = next;
    }
}

/* Replace *text by a copy of its own. */
static bool own(const char **text)
{
    if (*text == NULL)
        return true;
    *text = strdup(*text);
    return *text != NULL;
}

static bool own_schedule(tl_subscribe_options *s)
{
    uint64_t *copy = NULL;

    if (s->retry_schedule != NULL) {
        copy = calloc(s->retry_schedule_count + 1, sizeof *copy);
        for (size_t i = 0; copy != NULL && i < s->retry_schedule_count; i++)
            copy[i] = s->retry_schedule[i];
    }
    if (s->retry_schedule != NULL && copy == NULL) {
        s->retry_schedule = NULL;
        return false;
    }
    s->retry_schedule = copy;
    return true;
}

static bool own_subscribe(tl_subscribe_options *s)
{
    bool is_good = own(&s->topic);

    /* all of them, so that what failed can be freed */
    is_good = own(&s->tenant_id) && is_good;
    is_good = own(&s->filter) && is_good;
    is_good = own(&s->filter_path) && is_good;
    is_good = own(&s->target_options) && is_good;
    return own_schedule(s) && is_good;
}

/* prefix.rest; NULL or "" prefix: rest alone. */
static char *join(const char *prefix, const char *rest)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf b = TL_BUF_INIT;

    if (prefix != NULL && prefix[0] != '\0') {
        tl__buf_add_str(&b, prefix);
        tl__buf_add_char(&b, '.');
    }
    tl__buf_add_str(&b, rest);
    return tl__buf_take(&b, NULL);
}

/* One name is one subscription, and that has one pattern. */
static bool has_name(const struct tl__router_entry *list, const char *name)
{
    for (; list != NULL; list = list->next) {
        if (strcmp(list->name, name) == 0)
            return true;
    }
    return false;
}

static void append(struct tl__router_entry **list, struct tl__router_entry *e)
{
    while (*list != NULL)
        list = &(*list)->next;
    *list = e;
}

/* A new entry with pattern prefix.pattern; name NULL: the pattern. subscribe is copied. */
static tl_status entry_new(const char *prefix, const char *pattern, const char *name,
                           const tl_subscribe_options *subscribe, struct tl__router_entry **ret)
{
    struct tl__router_entry *e = calloc(1, sizeof *e);
    tl_status status = TL_E_NOMEM;

    if (e == NULL)
        return TL_E_NOMEM;
    e->subscribe = *subscribe;
    if (!own_subscribe(&e->subscribe))
        goto out;
    e->pattern = join(prefix, pattern);
    e->is_name_default = name == NULL;
    if (e->pattern != NULL)
        e->name = strdup(name != NULL ? name : e->pattern);
    if (e->name == NULL)
        goto out;
    status = tl_pattern_check(e->pattern, NULL);
    if (status == TL_OK && (e->name[0] == '\0' || strlen(e->name) > TL_MAX_NAME_BYTES))
        status = TL_E_INVALID;
out:
    if (status != TL_OK) {
        entry_free(e);
        return status;
    }
    *ret = e;
    return TL_OK;
}

tl_status tl_router_new(const char *prefix, tl_router **ret)
{
    tl_router *r = calloc(1, sizeof *r);

    if (r == NULL)
        return TL_E_NOMEM;
    if (prefix != NULL && prefix[0] != '\0') {
        r->prefix = strdup(prefix);
        if (r->prefix == NULL) {
            free(r);
            return TL_E_NOMEM;
        }
    }
    *ret = r;
    return TL_OK;
}

tl_router *tl_router_free(tl_router *r)
{
    if (r != NULL) {
        entries_free(r->entries);
        free(r->prefix);
        free(r);
    }
    return NULL;
}

tl_status tl_router_on(tl_router *r, const char *pattern, tl_handler_fn fn, void *userdata,
                       const tl_route_options *from)
{
    tl_route_options opts;
    tl_subscribe_options subscribe;
    struct tl__router_entry *e;
    tl_status status;

    if (r == NULL || pattern == NULL || fn == NULL ||
        tl__options_load(NULL, "tl_router_on", &opts, sizeof opts, from) != TL_OK ||
        tl__options_load(NULL, "tl_router_on", &subscribe, sizeof subscribe,
                         opts.subscribe.size != 0 ? &opts.subscribe : NULL) != TL_OK ||
        subscribe.target != NULL)
        return TL_E_INVALID;
    status = entry_new(r->prefix, pattern, opts.name, &subscribe, &e);
    if (status != TL_OK)
        return status;
    if (has_name(r->entries, e->name)) {
        entry_free(e);
        return TL_E_INVALID;
    }
    e->fn = fn;
    e->userdata = userdata;
    e->is_transactional = opts.transactional;
    append(&r->entries, e);
    return TL_OK;
}

tl_status tl_router_include(tl_router *r, const tl_router *other, const char *prefix)
{
    struct tl__router_entry *copies = NULL;
    TL_CLEANUP(tl__freep)
    char *whole = NULL;
    tl_status status = TL_OK;

    if (r == NULL || other == NULL || r == other)
        return TL_E_INVALID;
    if (r->prefix != NULL && prefix != NULL && prefix[0] != '\0')
        whole = join(r->prefix, prefix);
    else
        whole = strdup(r->prefix != NULL ? r->prefix : prefix != NULL ? prefix : "");
    if (whole == NULL)
        return TL_E_NOMEM;
    for (const struct tl__router_entry *o = other->entries; o != NULL; o = o->next) {
        struct tl__router_entry *e;

        status =
            entry_new(whole, o->pattern, o->is_name_default ? NULL : o->name, &o->subscribe, &e);
        if (status != TL_OK)
            break;
        e->fn = o->fn;
        e->userdata = o->userdata;
        e->is_transactional = o->is_transactional;
        append(&copies, e);
        if (has_name(r->entries, e->name)) {
            status = TL_E_INVALID;
            break;
        }
    }
    if (status != TL_OK) {
        entries_free(copies);
        return status;
    }
    append(&r->entries, copies);
    return TL_OK;
}
