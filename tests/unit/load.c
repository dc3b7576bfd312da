/*
 * load.c: src/load: quantiles within 1 %, open loops that count from when a call was due.
 */
#include "callers.h"
#include "process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void quantiles(void **state)
{
    struct tl__histogram *h = calloc(1, sizeof *h), *sum = calloc(1, sizeof *sum);

    (void)state;
    assert_int_equal(tl__histogram_quantile(h, 0.5), 0);
    for (uint64_t ns = 1; ns <= 1000000; ns++)
        tl__histogram_add(h, ns * 7, 1);
    static const double qs[] = {0.001, 0.1, 0.5, 0.9, 0.99, 0.999};
    for (size_t i = 0; i < sizeof qs / sizeof *qs; i++) {
        double exact = qs[i] * 7e6, got = (double)tl__histogram_quantile(h, qs[i]);
        assert_true(got >= exact * 0.9999 && got <= exact * 1.01);
    }
    assert_int_equal(tl__histogram_quantile(h, 1), 7000000);
    /* every size: the bucket of a value ends at it or a little above */
    for (uint64_t ns = 1; ns < 1ULL << 39; ns += ns / 3 + 1) {
        *sum = (struct tl__histogram){0};
        tl__histogram_add(sum, ns, 1);
        tl__histogram_add(sum, 1ULL << 39, 1);
        uint64_t got = tl__histogram_quantile(sum, 0.5);
        assert_true(got >= ns && got <= ns + ns / 100);
    }
    *sum = (struct tl__histogram){0};
    tl__histogram_add(sum, 5, 3);
    tl__histogram_add(sum, UINT64_MAX, 1); /* longer than it tells apart */
    tl__histogram_merge(sum, h);
    assert_int_equal(sum->count, 1000004);
    assert_true(sum->max_ns == UINT64_MAX);
    assert_int_equal(tl__histogram_quantile(sum, 0.000001), 5);
    free(h);
    free(sum);
}

static atomic_int calls, fail_at;

static bool call(void *context, uint64_t due_ns)
{
    uint64_t sleep_ns = *(const uint64_t *)context;

    (void)due_ns;
    if (atomic_fetch_add(&calls, 1) + 1 == atomic_load(&fail_at))
        return false;
    tl__sleep_until_ns(tl__clock_ns() + sleep_ns);
    return true;
}

static struct tl__calls run(uint64_t sleep_ns, int n, double seconds, double per_s,
                            const atomic_bool *cancel, struct tl__histogram *times)
{
    struct tl__caller callers[8];
    struct tl__callers_run options = {seconds, per_s, cancel};

    atomic_store(&calls, 0);
    *times = (struct tl__histogram){0};
    for (int i = 0; i < n; i++)
        callers[i] = (struct tl__caller){&sleep_ns, call};
    return tl__callers_run(callers, n, &options, times);
}

static void closed_loop(void **state)
{
    struct tl__histogram *h = calloc(1, sizeof *h);
    struct tl__calls c = run(1000000, 4, 0.1, 0, NULL, h);

    (void)state;
    assert_true(c.is_ok && c.late == 0);
    assert_true(c.count >= 4 && c.count <= 400);
    assert_int_equal(c.count, atomic_load(&calls));
    assert_int_equal(h->count, c.count);
    assert_true(tl__histogram_quantile(h, 0) >= 1000000);
    assert_true(c.elapsed_ns >= 100000000);
    free(h);
}

/* 20 calls due in 0.2 s, each takes 25 ms, one thread: the last has waited for all before it. */
static void open_loop(void **state)
{
    struct tl__histogram *h = calloc(1, sizeof *h);
    struct tl__calls c = run(25000000, 1, 0.2, 100, NULL, h);

    (void)state;
    assert_true(c.is_ok);
    assert_int_equal(c.count + c.late, 20);
    assert_true(c.late >= 3); /* 0.4 s are enough for 16 */
    assert_int_equal(h->count, 20);
    assert_true(h->max_ns >= 200000000);
    assert_true(tl__histogram_quantile(h, 0.5) >= 100000000);
    c = run(0, 2, 0.05, 100, NULL, h);
    assert_int_equal(c.count + c.late, 5);
    assert_true(c.elapsed_ns >= 40000000); /* not before they are due */
    free(h);
}

static void ends(void **state)
{
    struct tl__histogram *h = calloc(1, sizeof *h);
    atomic_bool cancel = true;
    struct tl__calls c = run(0, 2, 3600, 0, &cancel, h);

    (void)state;
    assert_true(c.is_ok && c.count == 0);
    c = run(0, 2, 3600, 0.001, &cancel, h);
    assert_true(c.is_ok && c.count == 0);
    atomic_store(&fail_at, 3);
    c = run(0, 2, 3600, 0, NULL, h);
    assert_false(c.is_ok);
    assert_int_equal(c.count, atomic_load(&calls) - 1);
    atomic_store(&fail_at, 3);
    c = run(0, 2, 3600, 1000, NULL, h);
    assert_false(c.is_ok);
    atomic_store(&fail_at, 0);
    free(h);
}

static void processes(void **state)
{
    uint64_t before = tl__own_cpu_ns();

    (void)state;
    while (tl__own_cpu_ns() < before + 5000000) {
    }
    assert_true(tl__process_cpu_ns(getpid()) >= 5000000);
    assert_true(tl__process_resident_bytes(getpid()) > 100000);
    assert_int_equal(tl__process_cpu_ns(999999999), 0);
    assert_int_equal(tl__process_resident_bytes(999999999), 0);
    assert_false(tl__process_is(getpid(), "no such command"));
    assert_false(tl__process_is(999999999, ""));
    assert_true(tl__process_is(getpid(), ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles), cmocka_unit_test(closed_loop), cmocka_unit_test(open_loop),
        cmocka_unit_test(ends),      cmocka_unit_test(processes),
    };
    return cmocka_run_group_tests_name("load", tests, NULL, NULL);
}
