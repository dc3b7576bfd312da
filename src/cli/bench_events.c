/*
 * bench_events.c: the payloads of `trunkline bench`.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "demo_events.h"
#include "out.h"

enum { MIN_SIZE = 64, MAX_SIZE = 1000000 };
static const char stamp_name[] = "{\"t\":";

void tl__bench_stamp(struct tl__buf *to, const struct tl__bench_event *e, uint64_t due_ns)
{
    tl__buf_addf(to, "%s%" PRIu64 ",", stamp_name, due_ns);
    tl__buf_add(to, e->data + 1, e->len - 1);
}

uint64_t tl__bench_stamp_of(const char *data)
{
    size_t len = sizeof stamp_name - 1;

    return data && strncmp(data, stamp_name, len) == 0 ? strtoull(data + len, NULL, 10) : 0;
}

static bool make_github(struct tl__bench_events *e)
{
    size_t total = 0;

    if (!tl__demo_events_load(&e->github, &e->count) ||
        !(e->items = calloc(e->count, sizeof *e->items)))
        return false;
    for (size_t i = 0; i < e->count; i++) {
        const struct tl__demo_event *from = &e->github[i];
        e->items[i] = (struct tl__bench_event){from->type, from->key, from->data, from->data_len};
        total += from->data_len;
    }
    e->mean_bytes = (double)total / (double)e->count;
    return true;
}

/* An object of so many bytes with its stamp, of letters that do not compress to nothing. */
static bool make_sized(struct tl__bench_events *e, size_t size)
{
    static const char begin[] = "{\"pad\":\"", end[] = "\"}",
                      letters[] =
                          "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t stamp = sizeof stamp_name - 1 + 15; /* a machine that is up for days */
    size_t len = size - stamp, pad = len - (sizeof begin - 1) - (sizeof end - 1);
    uint64_t random = 88172645463325252u;

    e->text = malloc(len + 1);
    e->items = calloc(1, sizeof *e->items);
    if (!e->text || !e->items)
        return false;
    memcpy(e->text, begin, sizeof begin - 1);
    for (size_t i = 0; i < pad; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        e->text[sizeof begin - 1 + i] = letters[random & 63];
    }
    memcpy(e->text + len - (sizeof end - 1), end, sizeof end);
    e->items[0] = (struct tl__bench_event){"bench.event.made", NULL, e->text, len};
    e->count = 1;
    e->mean_bytes = (double)size;
    return true;
}

int tl__bench_events_make(struct tl__bench_events *e, const char *payload)
{
    char *unit;
    unsigned long long size = strtoull(payload, &unit, 10);
    bool is_github = strcmp(payload, "github") == 0, is_kilo = strcmp(unit, "kB") == 0;

    size *= is_kilo ? 1000 : 1;
    if (!is_github && (unit == payload || !strchr("0123456789", *payload) || (*unit && !is_kilo) ||
                       size < MIN_SIZE || size > MAX_SIZE))
        return tl__fail(TL_E_INVALID, NULL,
                        "--payload is github or a size from %d to %d bytes such as 300 or 4kB, "
                        "not \"%s\"",
                        MIN_SIZE, MAX_SIZE, payload);
    if (is_github ? make_github(e) : make_sized(e, (size_t)size))
        return 0;
    return tl__fail(TL_E_NOMEM, NULL, "no memory for the payloads");
}

void tl__bench_events_done(struct tl__bench_events *e)
{
    if (e->github)
        tl__demo_events_free(e->github, e->count);
    free(e->items);
    free(e->text);
    *e = (struct tl__bench_events){0};
}
