/* status.c: the table of codes, SQLSTATEs as statuses, and the error detail of a handle. */
#include "internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void every_status_has_name_text_and_exit_code(void **state)
{
    (void)state;
#define CHECK(code, value, sqlstate, http, exit_code, text)                                        \
    assert_string_equal(tl_status_name(code), #code);                                              \
    assert_string_equal(tl_status_text(code), text);                                               \
    assert_int_equal(tl_status_exit_code(code), exit_code);                                        \
    assert_int_equal(strlen(sqlstate), 5);
    TL_STATUS_MAP(CHECK)
#undef CHECK
    assert_string_equal(tl_status_name((tl_status)99), "TL_E_?");
    assert_non_null(tl_status_text((tl_status)99));
    assert_string_equal(tl_version(), "0.1.0");
}

static void sqlstates_map_to_statuses(void **state)
{
    static const struct {
        const char *sqlstate, *constraint;
        tl_status status;
    } cases[] = {
        {"TL001", NULL, TL_E_CONFLICT},      {"TL002", NULL, TL_E_NOTFOUND},
        {"TL003", NULL, TL_E_CONFLICT},      {"TL004", NULL, TL_E_FENCED},
        {"TL005", NULL, TL_E_INVALID},       {"TL006", NULL, TL_E_SCHEMA},
        {"TL007", NULL, TL_E_LIMIT},         {"42501", NULL, TL_E_DENIED},
        {"22P02", NULL, TL_E_INVALID},       {"22P05", NULL, TL_E_INVALID},
        {"22021", NULL, TL_E_INVALID},       {"22030", NULL, TL_E_INVALID},
        {"23514", "event_size", TL_E_LIMIT}, {"23514", "event_type", TL_E_INVALID},
        {"23514", NULL, TL_E_INVALID},       {"42P01", NULL, TL_E_SCHEMA},
        {"3F000", NULL, TL_E_SCHEMA},        {"42883", NULL, TL_E_SCHEMA},
        {"57014", NULL, TL_E_TIMEOUT},       {"57P01", NULL, TL_E_CONNECTION},
        {"08006", NULL, TL_E_CONNECTION},    {"08P01", NULL, TL_E_CONNECTION},
        {"40001", NULL, TL_E_SERVER},        {"53100", NULL, TL_E_SERVER},
        {"25P02", NULL, TL_E_INVALID},       {"25006", NULL, TL_E_UNSUPPORTED},
        {"0A000", NULL, TL_E_UNSUPPORTED},   {"55000", NULL, TL_E_INVALID},
        {"23505", NULL, TL_E_CONFLICT},      {"XX000", NULL, TL_E_SERVER},
        {"TL999", NULL, TL_E_SERVER},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tl_status status = tl__status_from_sqlstate(cases[i].sqlstate, cases[i].constraint);

        if (status != cases[i].status)
            fail_msg("%s is %s", cases[i].sqlstate, tl_status_name(status));
    }
}

static void error_detail_is_kept_and_cleared(void **state)
{
    struct tl_error e;

    (void)state;
    tl__error_clear(&e);
    assert_int_equal(tl_error_status(&e), TL_OK);
    assert_string_equal(tl_error_message(&e), "");
    assert_int_equal(tl_error_index(&e), -1);
    assert_int_equal(tl__error_set(&e, TL_E_SERVER, "40001", "%s %d", "try", 2), TL_E_SERVER);
    tl__error_set_detail(&e, "{}");
    tl__error_set_hint(&e, "again %s", "later");
    assert_string_equal(tl_error_message(&e), "try 2");
    assert_string_equal(tl_error_detail(&e), "{}");
    assert_string_equal(tl_error_hint(&e), "again later");
    assert_string_equal(tl_error_sqlstate(&e), "40001");
    assert_true(tl_error_is_retriable(&e));
    assert_false(tl_error_is_fatal(&e));
    assert_false(tl_error_outcome_unknown(&e));
    tl__error_set(&e, TL_E_INVALID, NULL, "x");
    assert_string_equal(tl_error_sqlstate(&e), "");
    assert_string_equal(tl_error_hint(&e), "");
    assert_false(tl_error_is_retriable(&e));
    tl__error_set(&e, TL_E_CLOSED, NULL, "x");
    assert_true(tl_error_is_fatal(&e));
    assert_int_equal(tl__error_set(NULL, TL_E_LIMIT, NULL, "x"), TL_E_LIMIT);
    tl__error_clear(NULL);
    assert_string_equal(tl_error_message(NULL), "");
    assert_null(tl_error_free(NULL));
}

static void long_messages_are_cut_between_characters(void **state)
{
    struct tl_error e;
    char text[2001];

    (void)state;
    for (int i = 0; i < 2000; i += 2)
        memcpy(text + i, "\xc3\xbc", 2);
    text[2000] = '\0';
    tl__error_set(&e, TL_E_INVALID, NULL, "%s", text);
    assert_int_equal(strlen(e.message), 510);
    tl__error_set(&e, TL_E_INVALID, NULL, "x%s", text);
    assert_int_equal(strlen(e.message), 511);
    tl__error_set_detail(&e, text);
    assert_int_equal(strlen(e.detail), 1022);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_name_text_and_exit_code),
        cmocka_unit_test(sqlstates_map_to_statuses),
        cmocka_unit_test(error_detail_is_kept_and_cleared),
        cmocka_unit_test(long_messages_are_cut_between_characters),
    };

    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
