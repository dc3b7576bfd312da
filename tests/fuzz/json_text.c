/* json_text.c: a JSON string read as jansson reads it, and any text written so that it reads back. */
#include "fuzz.h"

#include <jansson.h>

#include "json.h"
#include "json_scan.h"
#include "str.h"

static void check_read(const char *text, size_t len)
{
    json_t *json = json_loadb(text, len, JSON_DECODE_ANY, NULL);
    char *mine = tl__json_string_dup(text, len);

    /* it takes no white space around the string */
    if (json_is_string(json) && len > 0 && text[0] == '"' && text[len - 1] == '"')
        fuzz_check(mine != NULL && strcmp(mine, json_string_value(json)) == 0);
    json_decref(json);
    free(mine);
}

static void check_written(const char *text, size_t len)
{
    struct tl__buf out = TL_BUF_INIT;
    json_t *json;
    char *again;

    tl__json_add_string(&out, text, len);
    fuzz_check(!out.is_failed);
    if (memchr(text, '\0', len) == NULL) {
        again = tl__json_string_dup(out.data, out.len);
        fuzz_check(again != NULL && strlen(again) == len && memcmp(again, text, len) == 0);
        free(again);
    }
    if (tl__utf8_is_valid(text, len)) {
        json = json_loadb(out.data, out.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        fuzz_check(json_is_string(json) && json_string_length(json) == len);
        fuzz_check(memcmp(json_string_value(json), text, len) == 0);
        json_decref(json);
    }
    tl__buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, data + size};
    size_t len;
    char *text = fuzz_exact(&in, &len);

    check_read(text, len);
    check_written(text, len);
    free(text);
    return 0;
}
