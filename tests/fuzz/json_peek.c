/* json_peek.c: "name\n" and JSON: one member as jansson finds it, and never a byte behind the text. */
#include "fuzz.h"

#include <jansson.h>

#include "json_peek.h"

static void check(const char *name, const char *text, size_t len)
{
    const char *value = NULL;
    size_t value_len = 0;
    int64_t number = 0;
    bool is_found = tl__json_member(text, len, name, &value, &value_len);
    bool is_number = tl__json_member_i64(text, len, name, &number);
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL), *mine;
    const json_t *member = json_object_get(json, name);

    fuzz_check(!is_found || (value >= text && value_len > 0 && value + value_len <= text + len));
    fuzz_check(is_found || !is_number);
    /* names of ours need no escape, and jansson overlooks some NULs */
    if (json_is_object(json) && memchr(text, '\\', len) == NULL && memchr(text, 0, len) == NULL) {
        fuzz_check(is_found == (member != NULL));
        if (is_found) {
            mine = json_loadb(value, value_len, JSON_DECODE_ANY, NULL);
            fuzz_check(mine != NULL && json_equal(mine, member));
            json_decref(mine);
        }
        if (json_is_integer(member) && json_integer_value(member) != INT64_MIN)
            fuzz_check(is_number && number == json_integer_value(member));
        else
            fuzz_check(!is_number);
    }
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, data + size};
    char *name = fuzz_line(&in);
    size_t len;
    char *text = fuzz_exact(&in, &len);

    check(name, text, len);
    free(name);
    free(text);
    return 0;
}
