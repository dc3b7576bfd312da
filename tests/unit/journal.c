/*
 * journal: entries go out in order, together, and once they are written (SUB-11).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal.h"

static void count(void *userdata)
{
    ++*(int *)userdata;
}

/* All fields are the same text; the last one is of `last` bytes more. */
static uint64_t add(struct tl__journal *j, const char *field, size_t last)
{
    size_t size = strlen(field) + 1, len = TL__JOURNAL_FIELDS * size + last;
    char *text = malloc(len);

    assert_non_null(text);
    for (int i = 0; i < TL__JOURNAL_FIELDS; i++)
        memcpy(text + (size_t)i * size, field, size);
    memset(text + len - last - 1, 'x', last);
    text[len - 1] = 0;
    uint64_t seq = tl__journal_add(j, text, len);
    free(text);
    return seq;
}

/* What is next; "": nothing. All arrays are the same. */
static const char *peek(struct tl__journal *j, uint64_t *upto)
{
    static char text[100];
    char *arrays[TL__JOURNAL_FIELDS];

    text[0] = 0;
    if (!tl__journal_peek(j, TL__JOURNAL_MOST, arrays, upto))
        return text;
    strncpy(text, arrays[0], sizeof text - 1);
    for (int i = 0; i < TL__JOURNAL_FIELDS; i++) {
        if (i < TL__JOURNAL_FIELDS - 1)
            assert_string_equal(arrays[i], text);
        free(arrays[i]);
    }
    return text;
}

static void test_order_and_forgetting(void **state)
{
    int added = 0;
    struct tl__journal *j = tl__journal_new(count, &added);
    uint64_t upto = 0;

    (void)state;
    assert_string_equal(peek(j, &upto), "");
    assert_int_equal(tl__journal_seq(j), 0);
    assert_true(tl__journal_is_empty(j));
    for (int i = 1; i <= 3; i++)
        assert_int_equal(add(j, i == 1 ? "1" : i == 2 ? "NULL" : "\"3\"", 0), i);
    assert_int_equal(added, 3);
    assert_int_equal(tl__journal_seq(j), 0);
    for (int i = 0; i < 2; i++) { /* what is not forgotten comes again */
        assert_string_equal(peek(j, &upto), "{1,NULL,\"3\"}");
        assert_int_equal(upto, 3);
    }
    tl__journal_forget(j, 2);
    assert_int_equal(tl__journal_seq(j), 2);
    add(j, "4", 0);
    assert_string_equal(peek(j, &upto), "{\"3\",4}");
    tl__journal_forget(j, 4);
    assert_int_equal(tl__journal_seq(j), 4);
    assert_true(tl__journal_is_empty(j));
    add(j, "5", 0);
    assert_null(tl__journal_free(j));
}

/* Each field has its own array. */
static void test_fields(void **state)
{
    int added = 0;
    struct tl__journal *j = tl__journal_new(count, &added);
    static const char entry[] = "a\0b\0c\0d\0e\0f\0g\0h\0i\0j\0k\0\0m\0n";
    char *arrays[TL__JOURNAL_FIELDS];
    uint64_t upto;

    (void)state;
    tl__journal_add(j, entry, sizeof entry);
    assert_int_equal(tl__journal_peek(j, 1, arrays, &upto), 1);
    for (int i = 0; i < TL__JOURNAL_FIELDS; i++) {
        char wanted[4] = {'{', (char)('a' + i), '}', 0};
        assert_string_equal(arrays[i], i == 11 ? "{}" : wanted);
        free(arrays[i]);
    }
    tl__journal_free(j);
}

/* Added by two threads while another one writes them: in the order of their numbers, each once. */
struct writer {
    pthread_t thread;
    struct tl__journal *journal;
};

enum { EACH = 20000 };

static void *add_many(void *userdata)
{
    struct writer *w = userdata;

    for (int i = 0; i < EACH; i++) {
        char field[24];
        snprintf(field, sizeof field, "%d", i);
        add(w->journal, field, 1 + (size_t)i % 400);
    }
    return NULL;
}

static void ignore(void *userdata)
{
    (void)userdata;
}

static void test_threads(void **state)
{
    struct tl__journal *j = tl__journal_new(ignore, NULL);
    struct writer writers[2] = {{.journal = j}, {.journal = j}};
    int count = 0, found[EACH] = {0};

    (void)state;
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&writers[i].thread, NULL, add_many, &writers[i]), 0);
    while (count < 2 * EACH) {
        char *arrays[TL__JOURNAL_FIELDS];
        uint64_t upto = 0, before = tl__journal_seq(j);
        int n = tl__journal_peek(j, 1 + count % 700, arrays, &upto);

        if (n == 0) {
            sched_yield();
            continue;
        }
        assert_int_equal(upto, (uint64_t)(count + n));
        assert_int_equal(before, count);
        char *at = arrays[0] + 1;
        for (int i = 0; i < n; i++, at++)
            found[strtol(at, &at, 10)]++;
        for (int i = 0; i < TL__JOURNAL_FIELDS; i++)
            free(arrays[i]);
        tl__journal_forget(j, upto);
        count += n;
    }
    for (int i = 0; i < 2; i++)
        pthread_join(writers[i].thread, NULL);
    for (int i = 0; i < EACH; i++)
        assert_int_equal(found[i], 2);
    assert_true(tl__journal_is_empty(j));
    assert_int_equal(tl__journal_take_dropped(j), 0);
    tl__journal_free(j);
}

static void test_bounds(void **state)
{
    int added = 0;
    struct tl__journal *j = tl__journal_new(count, &added);
    const size_t size = 1 << 20, fields = 2 * TL__JOURNAL_FIELDS; /* of "x" */
    uint64_t upto = 0;

    (void)state;
    for (int i = 0; i < 70; i++)
        add(j, "x", size - fields);
    tl__journal_add(j, NULL, 0); /* no memory for it */
    assert_int_equal(tl__journal_take_dropped(j), 7);
    assert_int_equal(tl__journal_take_dropped(j), 0);
    assert_string_equal(peek(j, &upto), "{x,x,x,x}"); /* about 4 MiB at a time */
    assert_int_equal(upto, 4);
    tl__journal_forget(j, 64);
    assert_int_equal(tl__journal_seq(j), 71); /* nothing is left to wait for */
    add(j, "x", 5 * size);
    assert_string_equal(peek(j, &upto), "{x}"); /* a larger one goes alone */
    assert_int_equal(upto, 72);
    tl__journal_free(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_forgetting),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
