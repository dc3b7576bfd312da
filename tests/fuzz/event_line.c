/* event_line.c: a line of NDJSON, one byte before it says of which kind. What a JSON parser reads, we read,
 * and as it does; we may take more than JSON, which PostgreSQL then refuses. */
#include "fuzz.h"

#include <jansson.h>

#include "event_input.h"
#include "json_scan.h"

static bool has_escaped_name(const char *text, size_t len)
{
    struct tl__json_scan scan;
    struct tl__json_member m;

    tl__json_scan_start(&scan, text, len);
    while (tl__json_scan_next(&scan, &m))
        if (memchr(m.name, '\\', m.name_len) != NULL)
            return true;
    return false;
}

static bool is_string_or_null(const json_t *value)
{
    return value == NULL || json_is_null(value) || json_is_string(value);
}

/* Would the documented form of a line take it? Of a line without escapes in names. */
static bool is_proper(const json_t *line, bool has_stream)
{
    static const char *const strings[] = {"type", "id", "key", "tenant_id", "source", "stream"};
    size_t known = 0;
    bool is_event = json_is_string(json_object_get(line, "type")) || json_object_get(line, "data");

    for (size_t i = 0; i < 6; i++) {
        known += json_object_get(line, strings[i]) != NULL;
        if (!is_string_or_null(json_object_get(line, strings[i])))
            return false;
    }
    known += json_object_get(line, "data") != NULL;
    known += json_object_get(line, "metadata") != NULL;
    known += has_stream && json_object_get(line, "expect") != NULL;
    if (known != json_object_size(line) || (!has_stream && json_object_get(line, "stream")))
        return false;
    if (has_stream && !json_is_string(json_object_get(line, "stream")))
        return false;
    return (has_stream && !is_event) ||
           (json_is_string(json_object_get(line, "type")) && json_object_get(line, "data") != NULL);
}

static void compare_text(const json_t *line, const char *name, const char *got)
{
    const json_t *value = json_object_get(line, name);

    if (json_is_string(value))
        fuzz_check(got != NULL && strcmp(got, json_string_value(value)) == 0);
    else
        fuzz_check(got == NULL);
}

static void compare_json(const json_t *line, const char *name, const char *got, size_t len)
{
    const json_t *value = json_object_get(line, name);
    json_t *mine;

    if (value == NULL || (got == NULL && json_is_null(value))) {
        fuzz_check(got == NULL);
        return;
    }
    fuzz_check(got != NULL);
    mine = json_loadb(got, len, JSON_DECODE_ANY, NULL);
    fuzz_check(mine != NULL && json_equal(mine, value));
    json_decref(mine);
}

static void check(const char *text, size_t len, bool has_stream)
{
    struct tl__texts texts = {0};
    struct tl__event_line line = {.event = {.size = sizeof line.event}};
    const char *problem = tl__event_line_parse(&texts, text, len, has_stream, &line);
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);

    /* jansson overlooks some NULs */
    if (json_is_object(json) && memchr(text, 0, len) == NULL && !has_escaped_name(text, len)) {
        fuzz_check((problem == NULL) == is_proper(json, has_stream));
        if (problem == NULL) {
            compare_text(json, "type", line.event.type);
            compare_text(json, "id", line.event.id);
            compare_text(json, "key", line.event.key);
            compare_text(json, "tenant_id", line.event.tenant_id);
            compare_text(json, "source", line.event.source);
            compare_text(json, "stream", line.stream);
            compare_json(json, "data", line.event.data, line.event.data_len);
            compare_json(json, "metadata", line.event.metadata,
                         line.event.metadata ? strlen(line.event.metadata) : 0);
            compare_json(json, "expect", line.expect, line.expect_len);
        }
    }
    json_decref(json);
    tl__texts_done(&texts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, data + size};
    size_t len;
    char *text;

    if (size == 0)
        return 0;
    in.at++;
    text = fuzz_rest(&in, &len); /* getline() ends it with a NUL */
    check(text, len, (data[0] & 1) != 0);
    free(text);
    return 0;
}
