/*
 * demo_events.c: see demo_events.h.
 */
#include "demo_events.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include <trunkline/trunkline.h>

#include "command.h"
#include "json_scan.h"

static void describe_issue(struct tl__demo_event *e)
{
    json_t *data = json_loadb(e->data, e->data_len, 0, NULL);
    const char *repository =
        json_string_value(json_object_get(json_object_get(data, "repository"), "full_name"));
    const char *action = json_string_value(json_object_get(data, "action"));

    e->issue = json_integer_value(json_object_get(json_object_get(data, "issue"), "number"));
    e->is_open = action && !tl__choice_has("closed|deleted|transferred", action);
    e->repository = repository ? strdup(repository) : NULL;
    json_decref(data);
}

static bool parse_event(const char *line, size_t len, struct tl__demo_event *e)
{
    struct tl__json_scan scan;
    struct tl__json_member m;

    tl__json_scan_start(&scan, line, len);
    while (tl__json_scan_next(&scan, &m)) {
        if (m.name_len == 4 && memcmp(m.name, "type", 4) == 0)
            e->type = tl__json_string_dup(m.value, m.value_len);
        else if (m.name_len == 3 && memcmp(m.name, "key", 3) == 0)
            e->key = tl__json_string_dup(m.value, m.value_len);
        else if (m.name_len == 4 && memcmp(m.name, "data", 4) == 0) {
            e->data = m.value;
            e->data_len = m.value_len;
        }
    }
    if (scan.problem || !e->type || !e->data)
        return false;
    if (tl_pattern_matches("github.issues.*", e->type))
        describe_issue(e);
    return true;
}

const struct tl__demo_file *tl__demo_file(const char *name)
{
    for (size_t i = 0; i < tl__demo_files_count; i++)
        if (strcmp(tl__demo_files[i].name, name) == 0)
            return &tl__demo_files[i];
    return NULL;
}

bool tl__demo_events_load(struct tl__demo_event **ret, size_t *ret_count)
{
    const struct tl__demo_file *file = tl__demo_file("github-webhooks.ndjson");
    size_t room = 0;

    *ret = NULL;
    *ret_count = 0;
    for (size_t at = 0; file && at < file->len;) {
        const char *line = file->text + at, *end = memchr(line, '\n', file->len - at);
        size_t len = end ? (size_t)(end - line) : file->len - at;
        if (*ret_count == room) {
            room = room ? room * 2 : 512;
            struct tl__demo_event *more = realloc(*ret, room * sizeof **ret);
            if (!more)
                return false;
            *ret = more;
        }
        struct tl__demo_event *e = &(*ret)[*ret_count];
        *e = (struct tl__demo_event){0};
        ++*ret_count;
        if (!parse_event(line, len, e))
            return false;
        at += len + 1;
    }
    return *ret_count > 0;
}

void tl__demo_events_free(struct tl__demo_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(events[i].type);
        free(events[i].key);
        free(events[i].repository);
    }
    free(events);
}
