/* base.c: buffers, text, time, uuid and JSON writing of src/base. */
#include "buf.h"
#include "cleanup.h"
#include "clock.h"
#include "json.h"
#include "str.h"
#include "uuid.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void buffer_grows_and_stays_ended(void **state)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf b = TL_BUF_INIT;
    size_t len;
    char *taken;

    (void)state;
    for (int i = 0; i < 1000; i++)
        tl__buf_add_str(&b, "0123456789");
    assert_int_equal(b.len, 10000);
    assert_int_equal(b.data[b.len], '\0');
    tl__buf_clear(&b);
    tl__buf_addf(&b, "%s-%d", "x", 42);
    tl__buf_add_char(&b, '!');
    assert_string_equal(b.data, "x-42!");
    taken = tl__buf_take(&b, &len);
    assert_string_equal(taken, "x-42!");
    assert_int_equal(len, 5);
    assert_null(b.data);
    free(taken);
}

static void buffer_without_content_is_empty_text(void **state)
{
    struct tl__buf b = TL_BUF_INIT;
    char *taken;

    (void)state;
    taken = tl__buf_take(&b, NULL);
    assert_string_equal(taken, "");
    free(taken);
}

static void buffer_failure_is_sticky(void **state)
{
    struct tl__buf b = TL_BUF_INIT;

    (void)state;
    tl__buf_add_str(&b, "kept");
    assert_false(tl__buf_reserve(&b, SIZE_MAX / 2));
    tl__buf_add_str(&b, "dropped");
    assert_true(b.is_failed);
    assert_string_equal(b.data, "kept");
    assert_null(tl__buf_take(&b, NULL));
}

static void numbers_in_text_and_network_order(void **state)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf b = TL_BUF_INIT;

    (void)state;
    tl__buf_add_i64(&b, INT64_MIN);
    tl__buf_add_char(&b, ' ');
    tl__buf_add_i64(&b, INT64_MAX);
    tl__buf_add_char(&b, ' ');
    tl__buf_add_i64(&b, 0);
    assert_string_equal(b.data, "-9223372036854775808 9223372036854775807 0");
    tl__buf_clear(&b);
    tl__buf_put_u64(&b, 0x0102030405060708u);
    tl__buf_put_u32(&b, 0xfffefdfcu);
    assert_memory_equal(b.data, "\1\2\3\4\5\6\7\10\xff\xfe\xfd\xfc", 12);
    assert_true(tl__get_u64(b.data) == 0x0102030405060708u);
    assert_true(tl__get_u32(b.data + 8) == 0xfffefdfcu);
}

static void utf8_is_told_from_what_is_not(void **state)
{
    static const char *const good[] = {"",
                                       "abc",
                                       "gr\xc3\xbc\xc3\x9f",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "12345678\xc3\xbc"
                                       "12345678"};
    static const char *const bad[] = {"\xff",
                                      "\xc3",
                                      "\xc0\x80",
                                      "\xe0\x80\x80",
                                      "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80",
                                      "\x80",
                                      "12345678\xff"
                                      "12345678",
                                      "\xe2\x82",
                                      "\xf5\x80\x80\x80"};

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(tl__utf8_is_valid(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(tl__utf8_is_valid(bad[i], strlen(bad[i])));
}

static void text_is_cut_between_characters(void **state)
{
    char to[5];
    char dirty[] = "a\xff"
                   "b\xc3\xbc\xe2\x82";

    (void)state;
    assert_int_equal(tl__utf8_cut("a\xe2\x82\xac", 4, 4), 4);
    assert_int_equal(tl__utf8_cut("a\xe2\x82\xac", 4, 3), 1);
    assert_int_equal(tl__utf8_cut("a\xe2\x82\xac", 4, 0), 0);
    tl__str_copy(to, sizeof to, "ab\xe2\x82\xac");
    assert_string_equal(to, "ab");
    tl__utf8_clean(dirty);
    assert_string_equal(dirty, "a?b\xc3\xbc??");
    assert_true(tl__str_equal(NULL, NULL));
    assert_false(tl__str_equal("a", NULL));
    assert_true(tl__str_equal("a", "a"));
}

static void times_read_as_utc(void **state)
{
    static const struct {
        int64_t at_us;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000000Z"},
        {-1, "1969-12-31T23:59:59.999999Z"},
        {951782400000000, "2000-02-29T00:00:00.000000Z"},
        {1767225600000000, "2026-01-01T00:00:00.000000Z"},
        {4107542399999999, "2100-02-28T23:59:59.999999Z"},
        {4107542400000000, "2100-03-01T00:00:00.000000Z"},
        {253402300799999999, "9999-12-31T23:59:59.999999Z"},
    };
    char text[TL_TIME_TEXT_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tl__time_format(cases[i].at_us, text);
        assert_string_equal(text, cases[i].text);
    }
    tl__time_format(INT64_MAX, text);
    tl__time_format(INT64_MIN, text);
}

static void deadlines_saturate(void **state)
{
    (void)state;
    assert_true(tl__deadline_us(10, 5) == 15);
    assert_true(tl__deadline_us(10, UINT64_MAX) == TL_FOREVER);
    assert_int_equal(tl__poll_ms(10, TL_FOREVER), -1);
    assert_int_equal(tl__poll_ms(10, 10), 0);
    assert_int_equal(tl__poll_ms(10, 5), 0);
    assert_int_equal(tl__poll_ms(0, 1), 1);
    assert_int_equal(tl__poll_ms(0, 1000), 1);
    assert_int_equal(tl__poll_ms(0, 1001), 2);
    assert_true(tl__poll_ms(0, TL_FOREVER - 1) > 0);
    assert_true(tl__clock_us() > 0);
}

static void uuids_in_one_form_only(void **state)
{
    static const char *const bad[] = {"",
                                      "0123456789ab",
                                      "01234567-89ab-cdef-0123-456789abcde",
                                      "01234567-89ab-cdef-0123-456789abcdef0",
                                      "01234567-89ab-cdef-0123-456789abcdeg",
                                      "0123456789abcdef0123456789abcdef",
                                      "{01234567-89ab-cdef-0123-456789abcdef}",
                                      "01234567 89ab cdef 0123 456789abcdef",
                                      "event-123"};
    uint8_t bytes[16];
    char text[TL_UUID_TEXT_SIZE];

    (void)state;
    assert_true(tl__uuid_parse("01234567-89AB-cdef-0123-456789abcdEF", bytes));
    tl__uuid_format(bytes, text);
    assert_string_equal(text, "01234567-89ab-cdef-0123-456789abcdef");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(tl__uuid_parse(bad[i], bytes));
}

static void json_strings_are_escaped(void **state)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf b = TL_BUF_INIT;

    (void)state;
    tl__json_add_string(&b, "a\"\\\b\f\n\r\t\0\x1f/\x7f\xc3\xbc", 14);
    assert_string_equal(b.data, "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f/\x7f\xc3\xbc\"");
}

static void json_members_get_their_commas(void **state)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf b = TL_BUF_INIT;

    (void)state;
    tl__buf_add_char(&b, '{');
    tl__json_add_name(&b, "a");
    tl__json_add_text(&b, "{");
    tl__json_add_name(&b, "b");
    tl__json_add_text(&b, NULL);
    tl__buf_add_char(&b, '}');
    assert_string_equal(b.data, "{\"a\":\"{\",\"b\":null}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffer_grows_and_stays_ended),
        cmocka_unit_test(buffer_without_content_is_empty_text),
        cmocka_unit_test(buffer_failure_is_sticky),
        cmocka_unit_test(numbers_in_text_and_network_order),
        cmocka_unit_test(utf8_is_told_from_what_is_not),
        cmocka_unit_test(text_is_cut_between_characters),
        cmocka_unit_test(times_read_as_utc),
        cmocka_unit_test(deadlines_saturate),
        cmocka_unit_test(uuids_in_one_form_only),
        cmocka_unit_test(json_strings_are_escaped),
        cmocka_unit_test(json_members_get_their_commas),
    };

    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
