/*
 * json_scan: the members of one object, values byte for byte, and nothing read beyond the text.
 * The test hands over copies without a NUL, so that a sanitizer sees every byte too far.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json_scan.h"

/* "name=value;…", then "!problem" when there is one. The caller frees it. */
static char *scan(const char *text, size_t len)
{
    char *copy = malloc(len ? len : 1), *out = calloc(1, len * 2 + 200);
    struct tl__json_scan s;
    struct tl__json_member m;
    size_t n = 0;

    memcpy(copy, text, len);
    tl__json_scan_start(&s, copy, len);
    while (tl__json_scan_next(&s, &m))
        n += (size_t)snprintf(out + n, len * 2 + 100 - n, "%.*s=%.*s;", (int)m.name_len, m.name,
                              (int)m.value_len, m.value);
    if (s.problem)
        snprintf(out + n, 100, "!%s", s.problem);
    free(copy);
    return out;
}

static void check(const char *text, const char *expected)
{
    char *got = scan(text, strlen(text));

    assert_string_equal(got, expected);
    free(got);
}

static void test_objects(void **state)
{
    (void)state;
    check("{}", "");
    check(" \t{ }\r\n", "");
    check("{\"a\":1}", "a=1;");
    check("{ \"a\" : 1 , \"b\":\"x,}]\" }", "a=1;b=\"x,}]\";");
    check("{\"a\":{\"b\":[1,{\"c\":\"}\"}]},\"d\":null}", "a={\"b\":[1,{\"c\":\"}\"}]};d=null;");
    check("{\"a\":\"\\\"\\\\\",\"b\":[]}", "a=\"\\\"\\\\\";b=[];");
    check("{\"n\":12345678901234567890.10}", "n=12345678901234567890.10;");
    check("{\"\":-1e400}", "=-1e400;");
}

static void test_problems(void **state)
{
    (void)state;
    check("", "!not a JSON object");
    check("[1]", "!not a JSON object");
    check("{", "!member name expected");
    check("{\"a\"", "!':' expected");
    check("{\"a\":", "!value expected");
    check("{\"a\":}", "!value expected");
    check("{\"a\":1", "a=1;!',' or '}' expected");
    check("{\"a\":1,", "a=1;!member name expected");
    check("{\"a\":1,}", "a=1;!member name expected");
    check("{\"a\":1 2}", "a=1;!',' or '}' expected");
    check("{\"a\":[1}", "a=[1};!',' or '}' expected"); /* PostgreSQL refuses the value */
    check("{\"a\":[1", "!object or array without an end");
    check("{\"a\":\"x", "!string without an end");
    check("{\"a\":\"x\\", "!string without an end");
    check("{\"a", "!string without an end");
    check("{a:1}", "!member name expected");
    check("{\"a\":1}x", "a=1;!text after the object");
    check("{} {}", "!text after the object");
}

/* Every prefix of a line, and every line with one byte changed, ends without reading too far. */
static void test_damaged(void **state)
{
    static const char line[] =
        "{\"type\":\"a.b\",\"data\":{\"x\":[1,\"\\u00e9\\\"\"]},\"key\":null}";
    char copy[sizeof line];

    (void)state;
    for (size_t len = 0; len < sizeof line; len++)
        free(scan(line, len));
    for (size_t i = 0; i < sizeof line - 1; i++)
        for (int c = 0; c < 256; c++) {
            memcpy(copy, line, sizeof line);
            copy[i] = (char)c;
            free(scan(copy, sizeof line - 1));
        }
}

static void check_string(const char *json, const char *expected)
{
    size_t len = strlen(json);
    char *copy = malloc(len ? len : 1);

    memcpy(copy, json, len);
    char *got = tl__json_string_dup(copy, len);
    free(copy);
    if (expected)
        assert_string_equal(got, expected);
    else
        assert_null(got);
    free(got);
}

static void test_strings(void **state)
{
    (void)state;
    check_string("\"\"", "");
    check_string("\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "a\"\\/\b\f\n\r\t");
    check_string("\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00\"",
                 "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    check_string("\"\\u0000\"", NULL);
    check_string("\"\\ud83d\"", NULL);
    check_string("\"\\ud83dx\"", NULL);
    check_string("\"\\ude00\"", NULL);
    check_string("\"\\u12\"", NULL);
    check_string("\"\\u12g4\"", NULL);
    check_string("\"\\x\"", NULL);
    check_string("\"\\\"", NULL);
    check_string("1", NULL);
    check_string("\"", NULL);
    check_string("", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_objects),
        cmocka_unit_test(test_problems),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_strings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
