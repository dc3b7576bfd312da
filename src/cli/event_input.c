/*
 * event_input.c: see event_input.h.
 */
#include "event_input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "json.h"
#include "json_scan.h"
#include "out.h"

/* ------------------------------------------------------------------------------------- texts -- */

char *tl__texts_keep(struct tl__texts *t, char *text)
{
    if (text && t->count == t->room) {
        size_t room = t->room ? t->room * 2 : 64;
        char **items = reallocarray(t->items, room, sizeof *items);

        if (!items) {
            free(text);
            return NULL;
        }
        t->items = items;
        t->room = room;
    }
    if (text)
        t->items[t->count++] = text;
    return text;
}

void tl__texts_clear(struct tl__texts *t)
{
    for (size_t i = 0; i < t->count; i++)
        free(t->items[i]);
    t->count = 0;
}

void tl__texts_done(struct tl__texts *t)
{
    tl__texts_clear(t);
    free(t->items);
    *t = (struct tl__texts){0};
}

/* ----------------------------------------------------------------------------------- options -- */

int tl__metadata_option(const struct tl__args *args, struct tl__texts *t, const char **ret)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf out = TL_BUF_INIT;

    *ret = tl__args_text(args, "metadata");
    for (int i = 0; i < args->value_count; i++) {
        if (strcmp(args->values[i].option->name, "meta") != 0)
            continue;
        const char *pair = args->values[i].value, *equals = strchr(pair, '=');
        if (!equals || equals == pair)
            return tl__fail(TL_E_INVALID, NULL, "--meta takes KEY=VALUE, not \"%s\"", pair);
        tl__buf_add_char(&out, out.len ? ',' : '{');
        tl__json_add_string(&out, pair, (size_t)(equals - pair));
        tl__buf_add_char(&out, ':');
        tl__json_add_text(&out, equals + 1);
    }
    if (out.len == 0 && !out.is_failed)
        return 0;
    if (*ret)
        return tl__fail(TL_E_INVALID, "put everything into --metadata",
                        "--meta and --metadata exclude each other");
    tl__buf_add_char(&out, '}');
    *ret = tl__texts_keep(t, tl__buf_take(&out, NULL));
    return *ret ? 0 : tl__fail(TL_E_NOMEM, NULL, "out of memory");
}

static int read_document(struct tl__buf *into)
{
    if (isatty(STDIN_FILENO))
        tl__note("reading a JSON document from the terminal; end it with ctrl-d");
    for (;;) {
        if (!tl__buf_reserve(into, 65536))
            return tl__fail(TL_E_NOMEM, NULL, "out of memory");
        ssize_t n = read(STDIN_FILENO, into->data + into->len, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return tl__fail(TL_E_INVALID, NULL, "cannot read stdin");
        into->len += (size_t)n;
        into->data[into->len] = 0;
        if (n == 0)
            break;
        if (into->len > TL__MAX_INPUT_BYTES)
            return tl__fail(TL_E_LIMIT, NULL, "document on stdin is larger than 256 MiB");
    }
    if (strspn(into->data, " \t\r\n") == into->len)
        return tl__fail(TL_E_INVALID, "give DATA, or a JSON document on stdin",
                        "no data: stdin is empty");
    if (memchr(into->data, 0, into->len))
        return tl__fail(TL_E_INVALID, NULL, "stdin has a zero byte: that is no JSON");
    return 0;
}

int tl__data_operand(const char *data, struct tl__buf *into, const char **ret)
{
    if (data && !*data)
        return tl__fail(TL_E_INVALID, "give a JSON value, null at least", "data is empty");
    if (data && strcmp(data, "-") != 0) {
        *ret = data;
        return 0;
    }
    int rc = read_document(into);
    *ret = into->data;
    return rc;
}

/* ------------------------------------------------------------------------------------- lines -- */

static bool is_null(const struct tl__json_member *m)
{
    return m->value_len == 4 && memcmp(m->value, "null", 4) == 0;
}

/* Take a decoded string member, NULL for JSON null; false: it is no string. */
static bool take_string(struct tl__texts *t, const struct tl__json_member *m, const char **into)
{
    if (is_null(m))
        return true;
    *into = tl__texts_keep(t, tl__json_string_dup(m->value, m->value_len));
    return *into != NULL;
}

static bool is_name(const struct tl__json_member *m, const char *name)
{
    return m->name_len == strlen(name) && memcmp(m->name, name, m->name_len) == 0;
}

const char *tl__event_line_parse(struct tl__texts *t, const char *text, size_t len, bool has_stream,
                                 struct tl__event_line *line)
{
    enum { STRINGS = 6, DATA = STRINGS, METADATA, EXPECT, UNKNOWN };
    tl_new_event *e = &line->event;
    const struct {
        const char *name;
        const char **into;
    } strings[STRINGS] = {{"type", &e->type},     {"id", &e->id},
                          {"key", &e->key},       {"tenant_id", &e->tenant_id},
                          {"source", &e->source}, {"stream", &line->stream}};
    static const char *const others[] = {"data", "metadata", "expect"};
    static char unknown[128];
    struct tl__json_scan scan;
    struct tl__json_member m;
    unsigned seen = 0;

    tl__json_scan_start(&scan, text, len);
    while (tl__json_scan_next(&scan, &m)) {
        size_t i = 0;
        while (i < STRINGS && !is_name(&m, strings[i].name))
            i++;
        while (i >= STRINGS && i < UNKNOWN && !is_name(&m, others[i - STRINGS]))
            i++;
        if (i == UNKNOWN || (!has_stream && (i == STRINGS - 1 || i == EXPECT))) {
            snprintf(unknown, sizeof unknown, "unknown member \"%.*s\"",
                     (int)(m.name_len > 80 ? 80 : m.name_len), m.name);
            return unknown;
        }
        if (seen & 1u << i)
            return "a member stands there twice";
        seen |= 1u << i;
        if (i < STRINGS) {
            if (!take_string(t, &m, strings[i].into))
                return "type, id, key, tenant_id, source and stream are strings";
        } else if (i == DATA) {
            e->data = m.value;
            e->data_len = m.value_len;
        } else if (i == EXPECT) {
            line->expect = m.value;
            line->expect_len = m.value_len;
        } else if (!is_null(&m)) {
            /* needs its own NUL */
            e->metadata = tl__texts_keep(t, strndup(m.value, m.value_len));
            if (!e->metadata)
                return "out of memory";
        }
    }
    if (scan.problem)
        return scan.problem;
    if (has_stream && !line->stream)
        return "no stream";
    line->is_event = e->type || e->data;
    if (!has_stream || line->is_event) {
        if (!e->type)
            return "no type";
        if (!e->data)
            return "no data";
    }
    return NULL;
}
