/* names.c: names of schemas and topics, the quoting function and SQL templates; binary arrays, read back. */
#include "fuzz.h"

#include "arrays.h"
#include "internal.h"

static bool is_name(const char *name, const char *first, const char *later)
{
    size_t len = strlen(name);

    return len >= 1 && len <= TL_MAX_TOPIC_BYTES && strchr(first, name[0]) != NULL &&
           strspn(name, later) == len;
}

static void check_names(const char *name)
{
#define LOWER "abcdefghijklmnopqrstuvwxyz_"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    fuzz_check((tl__topic_check(NULL, name) == TL_OK) == is_name(name, LOWER, LOWER "0123456789"));
    fuzz_check((tl__schema_check(NULL, name) == TL_OK) ==
               is_name(name, LOWER UPPER, LOWER UPPER "0123456789-"));
}

/* Reading what was quoted, as PostgreSQL does, gives the name and ends at the last quote. */
static void check_quoted(const char *name)
{
    struct tl__buf out = TL_BUF_INIT;
    size_t at = 1;

    tl__quote_name(&out, name);
    fuzz_check(!out.is_failed && out.len >= 2 && out.data[0] == '"');
    for (; *name != '\0'; name++) {
        fuzz_check(out.data[at] == *name);
        if (*name == '"')
            fuzz_check(out.data[++at] == '"');
        at++;
    }
    fuzz_check(out.data[at] == '"' && at + 1 == out.len);
    tl__buf_done(&out);
}

static void check_template(const char *text, size_t len)
{
    struct tl__buf out = TL_BUF_INIT;

    tl__sql_expand(&out, "\"s\"", "t", text, len);
    fuzz_check(!out.is_failed && out.len <= len);
    if (memchr(text, '@', len) == NULL)
        fuzz_check(out.len == len && (len == 0 || memcmp(out.data, text, len) == 0));
    tl__buf_done(&out);
}

static void check_array(const char *const texts[2], int64_t number)
{
    struct tl__buf out = TL_BUF_INIT;
    size_t at = 20;

    tl__array_begin(&out, TL__OID_TEXT, 4);
    tl__array_add_text(&out, texts[0]);
    tl__array_add_jsonb(&out, texts[1], strlen(texts[1]));
    tl__array_add_text(&out, NULL);
    tl__array_add_i64(&out, number);
    fuzz_check(!out.is_failed && tl__get_u32(out.data) == 1 && tl__get_u32(out.data + 12) == 4);
    for (int i = 0; i < 2; i++) {
        size_t len = strlen(texts[i]);

        fuzz_check(tl__get_u32(out.data + at) == len + (size_t)i);
        fuzz_check(memcmp(out.data + at + 4 + i, texts[i], len) == 0);
        at += 4 + (size_t)i + len;
    }
    fuzz_check(tl__get_u32(out.data + at) == UINT32_MAX && tl__get_u32(out.data + at + 4) == 8);
    fuzz_check((int64_t)tl__get_u64(out.data + at + 8) == number && at + 16 == out.len);
    tl__buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, data + size};
    char *name = fuzz_line(&in), *second = fuzz_line(&in);
    const char *const texts[2] = {name, second};
    size_t len;
    char *rest = fuzz_exact(&in, &len);
    int64_t number = 0;

    memcpy(&number, rest, len < sizeof number ? len : sizeof number);
    check_names(name);
    check_quoted(name);
    check_template(rest, len);
    check_array(texts, number);
    free(name);
    free(second);
    free(rest);
    return 0;
}
