/* pattern.c: event types and patterns (PUB-1, PAT-1). Equality with the SQL matcher is proved on a
 * server: tests/pg/pattern_equality.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <trunkline/trunkline.h>

static char long_text[300];

static const char *letters(size_t n)
{
    memset(long_text, 'a', n);
    long_text[n] = '\0';
    return long_text;
}

static void matching(void **state)
{
    static const struct {
        const char *pattern, *type;
        bool is_match;
    } cases[] = {
        {"a", "a", true},
        {"a", "b", false},
        {"a", "aa", false},
        {"aa", "a", false},
        {"a.b", "a.b", true},
        {"a.b", "a", false},
        {"a", "a.b", false},
        {"a.*", "a.b", true},
        {"a.*", "a", false},
        {"a.*", "a.b.c", false},
        {"*.b", "a.b", true},
        {"*.b", "a.c", false},
        {"*.*", "a.b", true},
        {"*.*", "a", false},
        {"a.*.c", "a.b.c", true},
        {"a.*.c", "a.b.d", false},
        {"a.**", "a.b", true},
        {"a.**", "a.b.c.d", true},
        {"a.**", "a", false},
        {"*.**", "a.b", true},
        {"*.**", "a", false},
        {"*", "a", true},
        {"*", "a.b.c", true},
        {"**", "a", true},
        {"**", "a.b.c", true},
        /* the mistakes of LIKE: swapped sides, _ and % as wildcards */
        {"financial.payment.failed", "financial.invoice.created", false},
        {"*.invoice.created", "financial.invoice.created", true},
        {"order_created", "orderXcreated", false},
        {"order%", "order.created", false},
        {"a.b", "axb", false},
        {"\xc3\xbc.*", "\xc3\xbc.x", true},
        /* malformed matches nothing, not even itself */
        {"", "a", false},
        {"a..b", "a..b", false},
        {"a*", "ab", false},
        {"**.a", "b.a", false},
        {"***", "a", false},
        {"a", "", false},
        {"*", "", false},
        {"**", "a..b", false},
        {"*", "a.*", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (tl_pattern_matches(cases[i].pattern, cases[i].type) != cases[i].is_match)
            fail_msg("'%s' on '%s' is not %d", cases[i].pattern, cases[i].type, cases[i].is_match);
    }
    assert_false(tl_pattern_matches(NULL, "a"));
    assert_false(tl_pattern_matches("*", NULL));
}

static void types(void **state)
{
    static const char *const bad[] = {"", ".", "a.", ".a", "a..b", "*", "a.*", "a*b"};
    const char *why = NULL;

    (void)state;
    assert_int_equal(tl_type_check("financial.invoice.created", &why), TL_OK);
    assert_int_equal(tl_type_check("a", NULL), TL_OK);
    assert_int_equal(tl_type_check(letters(255), NULL), TL_OK);
    assert_int_equal(tl_type_check(letters(256), &why), TL_E_INVALID);
    assert_string_equal(why, "is longer than 255 bytes");
    assert_int_equal(tl_type_check(NULL, &why), TL_E_INVALID);
    assert_string_equal(why, "is empty");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(tl_type_check(bad[i], NULL), TL_E_INVALID);
}

static void patterns(void **state)
{
    static const char *const good[] = {"*", "**", "a", "a.*", "*.a", "a.**", "*.*.**", "a.b.c"};
    static const char *const bad[] = {"",   ".",    "a.",   ".*",  "a..b",  "a*",
                                      "*a", "a.*b", "**.a", "***", "a.***", "**.**"};
    const char *why = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(tl_pattern_check(good[i], NULL), TL_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(tl_pattern_check(bad[i], NULL), TL_E_INVALID);
    assert_int_equal(tl_pattern_check(letters(256), &why), TL_E_INVALID);
    assert_string_equal(why, "is longer than 255 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matching),
        cmocka_unit_test(types),
        cmocka_unit_test(patterns),
    };

    return cmocka_run_group_tests_name("pattern", tests, NULL, NULL);
}
