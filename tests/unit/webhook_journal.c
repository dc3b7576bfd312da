/*
 * webhooks: what the server refuses of the journal of attempts is offered again, or dropped where it would be
 * refused for ever (SUB-11).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "webhooks.h"

static const uint64_t HOUR_US = 3600000000;

/* A server. */
struct world {
    struct tl__journal *journal;
    struct tl__webhooks webhooks;
    char refusal[TL__SQLSTATE_SIZE];
    const char *state;  /* SQLSTATE for every batch; "": no answer; NULL: none */
    int times;          /* so often */
    const char *poison; /* a batch with this entry breaks a limit */
    char written[2000]; /* first fields of the entries */
    int queries;
};

static PGresult *query(void *userdata, const char *event, const char *sql, int n,
                       const char *const *values)
{
    struct world *w = userdata;

    assert_string_equal(event, "attempts_failed");
    assert_non_null(strstr(sql, "record_attempts"));
    assert_int_equal(n, TL__JOURNAL_FIELDS);
    w->queries++;
    w->refusal[0] = 0;
    if (w->state && w->times-- > 0)
        memcpy(w->refusal, w->state, strlen(w->state) + 1);
    else if (w->poison && strstr(values[0], w->poison))
        memcpy(w->refusal, "22001", sizeof "22001");
    else {
        size_t len = strlen(w->written);

        snprintf(w->written + len, sizeof w->written - len, "%s", values[0]);
        return PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    }
    return NULL;
}

static void ignore(void *userdata)
{
    (void)userdata;
}

static void add(struct world *w, const char *field)
{
    size_t size = strlen(field) + 1, len = TL__JOURNAL_FIELDS * size;
    char *text = malloc(len);

    assert_non_null(text);
    for (int i = 0; i < TL__JOURNAL_FIELDS; i++)
        memcpy(text + (size_t)i * size, field, size);
    tl__journal_add(w->journal, text, len);
    free(text);
}

static void begin(struct world *w)
{
    *w = (struct world){.journal = tl__journal_new(ignore, NULL)};
    assert_non_null(w->journal);
    tl__webhooks_init(&w->webhooks, query, w, w->refusal, w->journal);
    for (const char *name = "abcdefgh"; *name; name++)
        add(w, (char[]){*name, 0});
}

static void end(struct world *w)
{
    assert_true(tl__journal_is_empty(w->journal));
    tl__journal_free(w->journal);
}

static void test_a_passing_refusal_loses_nothing(void **state)
{
    /* locked, cancelled, no right, disk full, no such function, read only, deadlock */
    static const char *const states[] = {"55P03", "57014", "42501", "53100",
                                         "42883", "25006", "40P01"};

    (void)state;
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        struct world w;

        begin(&w);
        w.state = states[i];
        w.times = 1;
        assert_true(tl__webhooks_flush(&w.webhooks, false));
        assert_string_equal(w.written, "");
        assert_int_equal(w.queries, 1);
        add(&w, "i");
        w.webhooks.refused_at_us += HOUR_US; /* however long this test is interrupted */
        assert_true(tl__webhooks_flush(&w.webhooks, false)); /* so soon it is not offered again, */
        assert_int_equal(w.queries, 1);
        w.webhooks.refused_at_us -= HOUR_US + 1000000; /* a second later it is */
        assert_true(tl__webhooks_flush(&w.webhooks, false));
        assert_string_equal(w.written, "{a,b,c,d,e,f,g,h,i}");
        assert_int_equal(w.queries, 2);
        end(&w);
    }
}

static void test_the_last_flush_tries_again_at_once(void **state)
{
    struct world w;

    (void)state;
    begin(&w);
    w.state = "57014";
    w.times = 3;
    assert_true(tl__webhooks_flush(&w.webhooks, false));
    assert_true(tl__webhooks_flush(&w.webhooks, true));
    assert_string_equal(w.written, "{a,b,c,d,e,f,g,h}");
    assert_int_equal(w.queries, 4);
    for (const char *name = "abcdefgh"; *name; name++)
        add(&w, (char[]){*name, 0});
    w.times = 1000;
    assert_true(tl__webhooks_flush(&w.webhooks, true)); /* but not for ever */
    assert_int_equal(w.queries, 7);
    w.times = 0;
    assert_true(tl__webhooks_flush(&w.webhooks, true));
    end(&w);
}

static void test_without_an_answer_all_stays(void **state)
{
    struct world w;

    (void)state;
    begin(&w);
    w.state = "";
    w.times = 1;
    assert_false(tl__webhooks_flush(&w.webhooks, false));
    assert_string_equal(w.written, "");
    assert_true(
        tl__webhooks_flush(&w.webhooks, false)); /* by another connection, without a pause */
    assert_string_equal(w.written, "{a,b,c,d,e,f,g,h}");
    end(&w);
}

static void test_of_bad_values_only_these_are_dropped(void **state)
{
    (void)state;
    for (const char *bad = "adh"; *bad; bad++) {
        const char poison[] = {*bad, 0};
        struct world w;

        begin(&w);
        w.poison = poison;
        assert_true(tl__webhooks_flush(&w.webhooks, false));
        assert_null(strchr(w.written, *bad));
        for (const char *name = "abcdefgh"; *name; name++)
            assert_true(*name == *bad || strchr(w.written, *name) == strrchr(w.written, *name));
        for (const char *name = "abcdefgh"; *name; name++)
            assert_true(*name == *bad || strchr(w.written, *name));
        assert_int_equal(tl__journal_take_dropped(w.journal), 0); /* it was said already */
        end(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_passing_refusal_loses_nothing),
        cmocka_unit_test(test_the_last_flush_tries_again_at_once),
        cmocka_unit_test(test_without_an_answer_all_stays),
        cmocka_unit_test(test_of_bad_values_only_these_are_dropped),
    };
    return cmocka_run_group_tests_name("webhook_journal", tests, NULL, NULL);
}
