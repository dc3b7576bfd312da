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

/* Keys of two schedules, the second behind the first. */
struct pair_world {
    const char *keys[2][5];
    struct tl__schedule s[2];
};

static struct pair_world *pair_new(void)
{
    static const struct pair_world keys = {
        .keys = {{"a", "b", "a", NULL, "c"}, {"b", "a", NULL, "d", "a"}}};
    struct pair_world *p = malloc(sizeof *p);

    *p = keys;
    for (int k = 0; k < 2; k++)
        assert_true(tl__schedule_init(&p->s[k], 5, TL_ORDERING_KEY));
    return p;
}

static void pair_free(struct pair_world *p)
{
    tl__schedule_part(&p->s[0]);
    tl__schedule_done(&p->s[0]);
    tl__schedule_done(&p->s[1]);
    free(p);
}

static bool follow(struct pair_world *p)
{
    return tl__schedule_follow(&p->s[0], &p->s[1], key_of, p->keys[0], p->keys[1]);
}

/* SUB-10: what is behind another lease waits for its key there, and only for that. */
static void a_second_waits_for_its_keys_in_the_first(void **state)
{
    struct pair_world *p = pair_new();

    (void)state;
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(start_next(&p->s[0]), i);
    tl__schedule_finish(&p->s[0], 1);
    assert_true(follow(p));
    assert_int_equal(start_next(&p->s[1]), 0); /* b is done */
    assert_int_equal(start_next(&p->s[1]), 2);
    assert_int_equal(start_next(&p->s[1]), 3);
    assert_int_equal(start_next(&p->s[1]), TL__SCHEDULE_NONE);
    tl__schedule_finish(&p->s[0], 0);
    assert_int_equal(start_next(&p->s[1]), TL__SCHEDULE_NONE); /* a waits for index 2 */
    assert_int_equal(start_next(&p->s[0]), 2);
    tl__schedule_finish(&p->s[0], 2);
    assert_int_equal(start_next(&p->s[1]), 1);
    assert_int_equal(start_next(&p->s[1]), TL__SCHEDULE_NONE);
    tl__schedule_finish(&p->s[1], 1);
    assert_int_equal(start_next(&p->s[1]), 4);
    pair_free(p);
}

/* SUB-10: whether it fails before or after the second is there. */
static void a_failure_defers_its_key_in_the_second(void **state)
{
    (void)state;
    for (int is_late = 0; is_late < 2; is_late++) {
        struct pair_world *p = pair_new();
        uint32_t deferred;

        assert_int_equal(start_next(&p->s[0]), 0);
        if (is_late)
            assert_true(follow(p));
        assert_true(tl__schedule_block(&p->s[0], 0, key_of, p->keys[0], &deferred));
        assert_int_equal(deferred, 1);
        if (!is_late)
            assert_true(follow(p));
        assert_int_equal(p->s[1].finished, 2);
        assert_true(tl__schedule_is_deferred(&p->s[1], 1));
        assert_true(tl__schedule_is_deferred(&p->s[1], 4));
        assert_int_equal(p->s[1].settled, 0);
        assert_int_equal(start_next(&p->s[1]), 2); /* b has not begun */
        assert_int_equal(start_next(&p->s[0]), 1);
        tl__schedule_finish(&p->s[0], 1);
        assert_int_equal(start_next(&p->s[1]), 0);
        tl__schedule_finish(&p->s[1], 0);
        assert_int_equal(p->s[1].settled, 2);
        pair_free(p);
    }
}

static void without_keys_nothing_goes_on_behind(void **state)
{
    static const tl_ordering orderings[] = {TL_ORDERING_NONE, TL_ORDERING_TOTAL};

    (void)state;
    for (int k = 0; k < 4; k++) {
        struct pair_world *p = pair_new();

        p->s[k % 2].ordering = orderings[k / 2];
        assert_false(follow(p));
        assert_null(p->s[0].behind);
        pair_free(p);
    }
}

/* The same as above with a second schedule that joins the first at any moment. */
static void the_order_of_keys_survives_the_seam(void **state)
{
    enum { COUNT = 60 };
    static const char *const names[] = {"a", "b", "c", "d", NULL};
    unsigned seed = 2;

    (void)state;
    for (int round = 0; round < 300; round++) {
        const char *keys[2][COUNT];
        uint32_t running[COUNT * 2];
        uint32_t running_count = 0;
        uint32_t limit = 1 + (uint32_t)round % 7;
        uint32_t begun = 0;
        uint32_t joins_at = (uint32_t)round % COUNT;
        bool is_blocked[5] = {false};
        int64_t last[5] = {-1, -1, -1, -1, -1};
        struct tl__schedule s[2];

        for (int k = 0; k < 2; k++) {
            assert_true(tl__schedule_init(&s[k], COUNT, TL_ORDERING_KEY));
            for (int i = 0; i < COUNT; i++)
                keys[k][i] = names[((seed = seed * 1103515245u + 12345u) >> 16) % 5];
        }
        while (s[0].finished + s[1].finished < COUNT * 2) {
            uint32_t i = TL__SCHEDULE_NONE;
            uint32_t k;

            if (s[0].behind == NULL && begun >= joins_at)
                assert_true(tl__schedule_follow(&s[0], &s[1], key_of, keys[0], keys[1]));
            if (running_count < limit) {
                i = start_next(&s[0]);
                if (i == TL__SCHEDULE_NONE && s[0].behind != NULL &&
                    (i = start_next(&s[1])) != TL__SCHEDULE_NONE)
                    i += COUNT;
            }
            if (i != TL__SCHEDULE_NONE) {
                const char *key = keys[i / COUNT][i % COUNT];

                begun++;
                for (k = 0; k < running_count; k++)
                    assert_true(key == NULL || keys[running[k] / COUNT][running[k] % COUNT] != key);
                if (key != NULL) {
                    assert_false(is_blocked[key[0] - 'a']);
                    assert_true((int64_t)i > last[key[0] - 'a']);
                    last[key[0] - 'a'] = i;
                }
                running[running_count++] = i;
                assert_true(tl__schedule_hold(&s[i / COUNT], key_of, keys[i / COUNT]));
                continue;
            }
            if (running_count == 0) { /* the first has ended */
                assert_null(s[0].behind);
                joins_at = 0;
                continue;
            }
            k = ((seed = seed * 1103515245u + 12345u) >> 16) % running_count;
            i = running[k];
            running[k] = running[--running_count];
            if (round % 2 == 0 && (seed >> 24) % 8 == 0 && keys[i / COUNT][i % COUNT] != NULL) {
                uint32_t deferred;

                is_blocked[keys[i / COUNT][i % COUNT][0] - 'a'] = true;
                assert_true(tl__schedule_block(&s[i / COUNT], i % COUNT, key_of, keys[i / COUNT],
                                               &deferred));
            } else {
                tl__schedule_finish(&s[i / COUNT], i % COUNT);
            }
        }
        for (int k = 0; k < 2; k++)
            assert_int_equal(s[k].settled, COUNT);
        tl__schedule_part(&s[0]);
        tl__schedule_done(&s[0]);
        tl__schedule_done(&s[1]);
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
        cmocka_unit_test(a_second_waits_for_its_keys_in_the_first),
        cmocka_unit_test(a_failure_defers_its_key_in_the_second),
        cmocka_unit_test(without_keys_nothing_goes_on_behind),
        cmocka_unit_test(the_order_of_keys_survives_the_seam),
    };

    return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}
