/*
 * schedule.c: order of deliveries within a lease: no two of one key at once, those of a key in
 * order, with every choice of what finishes first; a key that failed ends (SUB-10, WRK-3).
 */
#include "schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *key_of(const void *context, uint32_t index)
{
    return ((const char *const *)context)[index];
}

static uint32_t start_next(struct tl__schedule *s)
{
    uint32_t i = tl__schedule_peek(s, UINT32_MAX);

    if (i != TL__SCHEDULE_NONE)
        tl__schedule_start(s, i);
    return i;
}

static void handlers_that_return_at_once_go_in_order(void **state)
{
    static const tl_ordering orderings[] = {TL_ORDERING_KEY, TL_ORDERING_NONE, TL_ORDERING_TOTAL};

    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct tl__schedule s;

        assert_true(tl__schedule_init(&s, 5, orderings[k]));
        for (uint32_t i = 0; i < 5; i++) {
            assert_int_equal(start_next(&s), i);
            tl__schedule_finish(&s, i);
            assert_int_equal(s.settled, i + 1);
        }
        assert_int_equal(start_next(&s), TL__SCHEDULE_NONE);
        assert_int_equal(s.finished, 5);
        assert_null(s.next_of_key); /* nobody looked at keys */
        tl__schedule_done(&s);
    }
}

static void a_key_waits_for_its_predecessor_only(void **state)
{
    const char *const keys[] = {"a", "a", "b", NULL, "a", NULL, "b"};
    struct tl__schedule s;

    (void)state;
    assert_true(tl__schedule_init(&s, 7, TL_ORDERING_KEY));
    assert_int_equal(start_next(&s), 0);
    assert_true(tl__schedule_hold(&s, key_of, keys));
    assert_int_equal(start_next(&s), 2);
    assert_int_equal(start_next(&s), 3);
    assert_int_equal(start_next(&s), 5);
    assert_int_equal(start_next(&s), TL__SCHEDULE_NONE);
    tl__schedule_finish(&s, 3);
    assert_int_equal(s.settled, 0);
    assert_int_equal(start_next(&s), TL__SCHEDULE_NONE);
    tl__schedule_finish(&s, 0);
    assert_int_equal(s.settled, 1);
    assert_int_equal(start_next(&s), 1);
    assert_int_equal(start_next(&s), TL__SCHEDULE_NONE);
    tl__schedule_finish(&s, 2);
    assert_int_equal(start_next(&s), 6);
    tl__schedule_finish(&s, 1);
    assert_int_equal(s.settled, 4);
    assert_int_equal(start_next(&s), 4);
    tl__schedule_done(&s);
}

static void total_runs_one_at_a_time_and_none_all(void **state)
{
    struct tl__schedule s;

    (void)state;
    assert_true(tl__schedule_init(&s, 3, TL_ORDERING_TOTAL));
    assert_int_equal(start_next(&s), 0);
    assert_int_equal(start_next(&s), TL__SCHEDULE_NONE);
    tl__schedule_finish(&s, 0);
    assert_int_equal(start_next(&s), 1);
    tl__schedule_done(&s);
    assert_true(tl__schedule_init(&s, 3, TL_ORDERING_NONE));
    assert_int_equal(start_next(&s), 0);
    assert_true(tl__schedule_hold(&s, key_of, NULL));
    assert_int_equal(start_next(&s), 1);
    assert_int_equal(start_next(&s), 2);
    tl__schedule_done(&s);
}

static void what_did_not_run_may_start_again(void **state)
{
    struct tl__schedule s;

    (void)state;
    assert_true(tl__schedule_init(&s, 3, TL_ORDERING_KEY));
    assert_int_equal(start_next(&s), 0);
    tl__schedule_finish(&s, 0);
    assert_int_equal(start_next(&s), 1);
    tl__schedule_undo(&s, 1);
    assert_int_equal(s.running, 0);
    assert_int_equal(s.settled, 1);
    assert_int_equal(tl__schedule_peek(&s, s.started), 1);
    assert_int_equal(tl__schedule_peek(&s, 1), TL__SCHEDULE_NONE);
    assert_int_equal(start_next(&s), 1);
    tl__schedule_done(&s);
}

/* A failure of a key ends the key in this lease, whether others run, wait, or were never looked at. */
static void a_blocked_key_defers_what_is_behind_it(void **state)
{
    const char *const keys[] = {"a", "b", "a", NULL, "b", "a", "c"};
    struct tl__schedule s;
    uint32_t deferred;

    (void)state;
    for (int is_held = 0; is_held < 2; is_held++) {
        assert_true(tl__schedule_init(&s, 7, TL_ORDERING_KEY));
        assert_int_equal(start_next(&s), 0);
        if (is_held) {
            assert_true(tl__schedule_hold(&s, key_of, keys));
            assert_int_equal(start_next(&s), 1);
        }
        assert_true(tl__schedule_block(&s, 0, key_of, keys, &deferred));
        assert_int_equal(deferred, 2);
        assert_int_equal(s.finished, 3);
        assert_int_equal(s.settled, 1);
        assert_true(tl__schedule_is_deferred(&s, 2));
        assert_true(tl__schedule_is_deferred(&s, 5));
        assert_false(tl__schedule_is_deferred(&s, 0));
        if (!is_held)
            assert_int_equal(start_next(&s), 1);
        assert_int_equal(start_next(&s), 3);
        tl__schedule_finish(&s, 3);
        assert_int_equal(s.settled, 1);
        tl__schedule_finish(&s, 1);
        assert_int_equal(s.settled, 4);
        assert_int_equal(start_next(&s), 4);
        tl__schedule_finish(&s, 4);
        assert_int_equal(s.settled, 6); /* over a deferred one */
        assert_int_equal(start_next(&s), 6);
        tl__schedule_finish(&s, 6);
        assert_int_equal(s.settled, 7);
        assert_int_equal(s.running, 0);
        assert_int_equal(start_next(&s), TL__SCHEDULE_NONE);
        tl__schedule_done(&s);
    }
}

/* In the middle of a key, and for an event without a key. */
static void blocking_looks_forward_only(void **state)
{
    const char *const keys[] = {"a", NULL, "a", "a", NULL};
    struct tl__schedule s;
    uint32_t deferred;

    (void)state;
    assert_true(tl__schedule_init(&s, 5, TL_ORDERING_KEY));
    assert_int_equal(start_next(&s), 0);
    tl__schedule_finish(&s, 0);
    assert_int_equal(start_next(&s), 1);
    assert_true(tl__schedule_block(&s, 1, key_of, keys, &deferred));
    assert_int_equal(deferred, 0);
    assert_int_equal(start_next(&s), 2);
    assert_true(tl__schedule_block(&s, 2, key_of, keys, &deferred));
    assert_int_equal(deferred, 1);
    assert_false(tl__schedule_is_deferred(&s, 0));
    assert_int_equal(start_next(&s), 4);
    tl__schedule_finish(&s, 4);
    assert_int_equal(s.settled, 5);
    tl__schedule_done(&s);
}

static void without_keys_blocking_cannot_tell_apart(void **state)
{
    static const tl_ordering orderings[] = {TL_ORDERING_NONE, TL_ORDERING_TOTAL};
    struct tl__schedule s;
    uint32_t deferred;

    (void)state;
    for (int k = 0; k < 2; k++) {
        assert_true(tl__schedule_init(&s, 3, orderings[k]));
        assert_int_equal(start_next(&s), 0);
        assert_false(tl__schedule_block(&s, 0, key_of, NULL, &deferred));
        assert_int_equal(deferred, 0);
        assert_int_equal(s.settled, 1);
        tl__schedule_done(&s);
    }
}

static void end_one(struct tl__schedule *s, const char *const *keys, uint32_t i, bool is_failure,
                    bool *is_blocked, uint32_t *deferred_count)
{
    uint32_t deferred;

    if (!is_failure) {
        tl__schedule_finish(s, i);
        return;
    }
    assert_true(tl__schedule_block(s, i, key_of, keys, &deferred));
    *deferred_count += deferred;
    for (uint32_t n = i + 1; n < s->count; n++)
        assert_true(keys[i] == NULL || keys[n] != keys[i] || tl__schedule_is_deferred(s, n));
    if (keys[i] != NULL)
        is_blocked[keys[i][0] - 'a'] = true;
}

/* Any order of finishing and failing, any concurrency: checks the invariant itself. */
static void the_order_of_keys_survives_every_order_of_finishing(void **state)
{
    enum { COUNT = 300 };
    static const char *const names[] = {"a", "b", "c", "d", NULL};
    unsigned seed = 1;

    (void)state;
    for (int round = 0; round < 400; round++) {
        const uint32_t limit = 1 + (uint32_t)round % 9; /* concurrency */
        const bool is_failing = round % 2 != 0;
        const char *keys[COUNT];
        uint32_t running[9];
        uint32_t running_count = 0;
        uint32_t begun = 0;
        uint32_t deferred_count = 0;
        bool is_blocked[5] = {false};
        int64_t last[5] = {-1, -1, -1, -1, -1};
        struct tl__schedule s;

        assert_true(tl__schedule_init(&s, COUNT, TL_ORDERING_KEY));
        for (int i = 0; i < COUNT; i++)
            keys[i] = names[((seed = seed * 1103515245u + 12345u) >> 16) % 5];
        while (s.finished < COUNT) {
            uint32_t i;

            while (running_count < limit && (i = start_next(&s)) != TL__SCHEDULE_NONE) {
                begun++;
                assert_false(keys[i] != NULL && is_blocked[keys[i][0] - 'a']);
                for (uint32_t k = 0; k < running_count; k++)
                    assert_false(keys[i] != NULL && keys[i] == keys[running[k]]);
                if (keys[i] != NULL) {
                    assert_true((int64_t)i > last[keys[i][0] - 'a']);
                    last[keys[i][0] - 'a'] = i;
                }
                seed = seed * 1103515245u + 12345u;
                if ((seed >> 16) % 3 == 0) { /* returns at once */
                    end_one(&s, keys, i, is_failing && (seed >> 20) % 8 == 0, is_blocked,
                            &deferred_count);
                    continue;
                }
                running[running_count++] = i;
                assert_true(tl__schedule_hold(&s, key_of, keys));
            }
            if (running_count > 0) {
                uint32_t k = ((seed = seed * 1103515245u + 12345u) >> 16) % running_count;

                end_one(&s, keys, running[k], is_failing && (seed >> 24) % 8 == 0, is_blocked,
                        &deferred_count);
                running[k] = running[--running_count];
            }
        }
        assert_int_equal(begun + deferred_count, COUNT);
        assert_true(is_failing || deferred_count == 0);
        assert_int_equal(s.settled, COUNT);
        tl__schedule_done(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handlers_that_return_at_once_go_in_order),
        cmocka_unit_test(a_key_waits_for_its_predecessor_only),
        cmocka_unit_test(total_runs_one_at_a_time_and_none_all),
        cmocka_unit_test(what_did_not_run_may_start_again),
        cmocka_unit_test(a_blocked_key_defers_what_is_behind_it),
        cmocka_unit_test(blocking_looks_forward_only),
        cmocka_unit_test(without_keys_blocking_cannot_tell_apart),
        cmocka_unit_test(the_order_of_keys_survives_every_order_of_finishing),
    };

    return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}
