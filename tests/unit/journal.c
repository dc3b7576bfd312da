/*
 * journal: entries go out in order, together, and once they are written (SUB-11).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "journal.h"

static void count(void *userdata)
{
    ++*(int *)userdata;
}

static void test_order_and_forgetting(void **state)
{
    int added = 0;
    struct tl__journal *j = tl__journal_new(count, &added);
    uint64_t upto = 0;

    (void)state;
    assert_null(tl__journal_peek(j, &upto));
    assert_int_equal(tl__journal_seq(j), 0);
    assert_true(tl__journal_is_empty(j));
    for (int i = 1; i <= 3; i++)
        assert_int_equal(tl__journal_add(j, strdup(i == 1 ? "{1}" : i == 2 ? "{2}" : "{3}")), i);
    assert_int_equal(added, 3);
    assert_int_equal(tl__journal_seq(j), 0);
    for (int i = 0; i < 2; i++) { /* what is not forgotten comes again */
        char *text = tl__journal_peek(j, &upto);
        assert_string_equal(text, "[{1},{2},{3}]");
        assert_int_equal(upto, 3);
        free(text);
    }
    tl__journal_forget(j, 2);
    assert_int_equal(tl__journal_seq(j), 2);
    tl__journal_add(j, strdup("{4}"));
    char *text = tl__journal_peek(j, &upto);
    assert_string_equal(text, "[{3},{4}]");
    free(text);
    tl__journal_forget(j, 4);
    assert_int_equal(tl__journal_seq(j), 4);
    assert_true(tl__journal_is_empty(j));
    tl__journal_add(j, strdup("{5}"));
    assert_null(tl__journal_free(j));
}

static void test_bounds(void **state)
{
    int added = 0;
    struct tl__journal *j = tl__journal_new(count, &added);
    size_t size = 1 << 20;
    uint64_t upto = 0;

    (void)state;
    for (int i = 0; i < 70; i++) {
        char *text = malloc(size + 1);
        memset(text, 'x', size);
        text[size] = 0;
        tl__journal_add(j, text);
    }
    tl__journal_add(j, NULL); /* no memory for it */
    assert_int_equal(tl__journal_take_dropped(j), 7);
    assert_int_equal(tl__journal_take_dropped(j), 0);
    char *text = tl__journal_peek(j, &upto);
    assert_int_equal(upto, 3); /* about 4 MiB at a time */
    free(text);
    tl__journal_forget(j, 64);
    assert_int_equal(tl__journal_seq(j), 71); /* nothing is left to wait for */
    char *huge = malloc(5 * size + 1);
    memset(huge, 'x', 5 * size);
    huge[5 * size] = 0;
    tl__journal_add(j, huge);
    text = tl__journal_peek(j, &upto);
    assert_int_equal(upto, 72); /* a larger one goes alone */
    free(text);
    tl__journal_free(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_forgetting),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
