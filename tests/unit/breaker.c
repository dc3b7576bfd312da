/*
 * breaker: when a daemon stops sending to an endpoint and when it tries again (SUB-11).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "breaker.h"

static void fail_times(struct tl__breaker *b, int n, uint64_t seq)
{
    for (int i = 0; i < n; i++)
        tl__breaker_count(b, false, 3, seq + (uint64_t)i);
}

static void test_opens_after_failures_in_a_row(void **state)
{
    struct tl__breaker b = {0};

    (void)state;
    fail_times(&b, 2, 1);
    assert_int_equal(b.state, TL__BREAKER_CLOSED);
    tl__breaker_count(&b, true, 3, 3);
    fail_times(&b, 2, 4);
    assert_int_equal(b.state, TL__BREAKER_CLOSED);
    fail_times(&b, 1, 6);
    assert_int_equal(b.state, TL__BREAKER_OPEN);
}

static void test_zero_never_opens(void **state)
{
    struct tl__breaker b = {0};

    (void)state;
    for (int i = 0; i < 1000; i++)
        tl__breaker_count(&b, false, 0, 1);
    assert_int_equal(b.state, TL__BREAKER_CLOSED);
}

static void test_older_news_change_nothing(void **state)
{
    struct tl__breaker b = {0};

    (void)state;
    fail_times(&b, 3, 10); /* opened by entry 12 */
    tl__breaker_take(&b, false, false, 11);
    assert_int_equal(b.state, TL__BREAKER_OPEN);
    tl__breaker_take(&b, true, false, 12);
    assert_int_equal(b.state, TL__BREAKER_OPEN);
    tl__breaker_take(&b, true, true, 12);
    assert_int_equal(b.state, TL__BREAKER_TRYING);
    tl__breaker_count(&b, true, 3, 20);
    assert_int_equal(b.state, TL__BREAKER_CLOSED);
    tl__breaker_take(&b, true, true, 19);
    assert_int_equal(b.state, TL__BREAKER_CLOSED);
}

static void test_one_failure_while_trying_opens(void **state)
{
    struct tl__breaker b = {0};

    (void)state;
    tl__breaker_take(&b, true, false, 0); /* another daemon found out */
    assert_int_equal(b.state, TL__BREAKER_OPEN);
    tl__breaker_take(&b, true, true, 0);
    assert_int_equal(b.state, TL__BREAKER_TRYING);
    fail_times(&b, 1, 1);
    assert_int_equal(b.state, TL__BREAKER_OPEN);
}

static void test_a_success_elsewhere_closes_and_counts_anew(void **state)
{
    struct tl__breaker b = {0};

    (void)state;
    fail_times(&b, 3, 1);
    tl__breaker_take(&b, false, false, 3);
    assert_int_equal(b.state, TL__BREAKER_CLOSED);
    fail_times(&b, 2, 4);
    assert_int_equal(b.state, TL__BREAKER_CLOSED);
    fail_times(&b, 1, 6);
    assert_int_equal(b.state, TL__BREAKER_OPEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens_after_failures_in_a_row),
        cmocka_unit_test(test_zero_never_opens),
        cmocka_unit_test(test_older_news_change_nothing),
        cmocka_unit_test(test_one_failure_while_trying_opens),
        cmocka_unit_test(test_a_success_elsewhere_closes_and_counts_anew),
    };
    return cmocka_run_group_tests_name("breaker", tests, NULL, NULL);
}
