/* delayed.c: events that fall due later, through the client (PUB-4, SCH-1, SCH-3, CLN-1). */
#include "client_test.h"

#define ID "11111111-1111-4111-8111-111111111111"
#define HOUR_US 3600000000ULL

static int64_t now_us(void)
{
    return (int64_t)time(NULL) * 1000000;
}

/* Minutes from publishing to due time, and to expiry. */
static int64_t minutes(PGconn *db, const char *what, const char *type)
{
    char sql[300];

    snprintf(
        sql, sizeof sql,
        "SELECT round(extract(epoch FROM %s - created_at) / 60) FROM trunkline.scheduled_events "
        "WHERE type = '%s'",
        what, type);
    return query_number(db, sql);
}

static void publish_later(void **state)
{
    struct fixture *f = *state;
    tl_receipt receipt = {.position = 7};

    assert_status(f->c,
                  tl_publish(f->c, NULL,
                             TL_NEW_EVENT(.type = "delay", .data = "{\"a\": 1}", .key = "k",
                                          .source = "s", .tenant_id = "t", .metadata = "{\"m\": 1}",
                                          .delay_us = HOUR_US, .ttl_us = HOUR_US / 2),
                             &receipt),
                  TL_OK);
    assert_int_equal(receipt.position, 0);
    assert_int_equal(strlen(receipt.id), 36);
    assert_int_equal(minutes(f->db, "run_at", "delay"), 60);
    assert_int_equal(minutes(f->db, "expires_at", "delay"), 90);
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.scheduled WHERE data = "
                                         "'{\"a\": 1}' AND metadata = '{\"m\": 1}' AND key = 'k' "
                                         "AND source = 's' AND tenant_id = 't'"),
                     1);
    assert_status(f->c,
                  tl_publish(f->c, "store",
                             TL_NEW_EVENT(.type = "at", .run_at_us = now_us() + 7200000000LL),
                             &receipt),
                  TL_OK);
    assert_int_equal(minutes(f->db, "run_at", "at"), 120);
    assert_int_equal(event_count(f->db), 0);

    assert_status(f->c,
                  tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "past", .run_at_us = 1), &receipt),
                  TL_OK);
    assert_int_equal(receipt.position, 1);
    assert_status(
        f->c, tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "ttl", .ttl_us = HOUR_US), NULL), TL_OK);
    assert_int_equal(query_number(f->db,
                                  "SELECT round(extract(epoch FROM expires_at - created_at)) "
                                  "FROM trunkline.topic_bus WHERE type = 'ttl'"),
                     3600);
}

static void an_id_repeats_it(void **state)
{
    struct fixture *f = *state;
    tl_receipt receipt;

    for (int i = 0; i < 2; i++) {
        assert_status(f->c,
                      tl_publish(f->c, NULL,
                                 TL_NEW_EVENT(.type = "a", .id = ID, .delay_us = HOUR_US),
                                 &receipt),
                      TL_OK);
        assert_int_equal(receipt.position, 0);
        assert_string_equal(receipt.id, ID);
        assert_int_equal(receipt.deduplicated, i);
    }
    assert_status(
        f->c,
        tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "b", .id = ID, .delay_us = HOUR_US), NULL),
        TL_E_CONFLICT);
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.scheduled"), 1);
}

static void refusals_name_the_field(void **state)
{
    struct fixture *f = *state;
    const struct {
        const char *field;
        tl_new_event event;
    } cases[] = {
        {"run_at", {.run_at_us = INT64_MAX}},
        {"run_at", {.run_at_us = now_us() + 11 * 365 * 24 * (int64_t)HOUR_US}},
        {"delay", {.delay_us = 11 * 366 * 24 * HOUR_US}},
        {"delay", {.delay_us = UINT64_MAX}},
        {"delay", {.delay_us = 1, .run_at_us = 1}},
        {"ttl", {.ttl_us = UINT64_MAX}},
        {"ttl", {.ttl_us = 1, .expires_at_us = 1}},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tl_new_event pair[2] = {{.size = sizeof pair[0], .type = "a"}, cases[i].event};

        pair[1].size = sizeof pair[1];
        pair[1].type = "a";
        assert_status(f->c, tl_publish(f->c, NULL, &pair[1], NULL), TL_E_INVALID);
        assert_contains(tl_error_detail(tl_client_error(f->c)), cases[i].field);
        assert_status(f->c, tl_publish_batch(f->c, NULL, pair, 2, NULL), TL_E_INVALID);
        assert_int_equal(tl_error_index(tl_client_error(f->c)), 1);
        assert_contains(tl_error_detail(tl_client_error(f->c)), cases[i].field);
    }
    assert_int_equal(event_count(f->db), 0);
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.scheduled"), 0);
    assert_status(
        f->c, tl_publish_wait(f->c, NULL, TL_NEW_EVENT(.type = "a", .delay_us = 1), 0, NULL, NULL),
        TL_E_INVALID);
    assert_contains(message(f->c), "delay");
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.scheduled"), 0);
}

static void batches_mix(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 1500 }; /* more than one chunk */
    tl_new_event *events = calloc(COUNT, sizeof *events);
    tl_receipt *receipts = calloc(COUNT, sizeof *receipts);
    int64_t later = 0;

    assert_non_null(events);
    assert_non_null(receipts);
    for (int i = 0; i < COUNT; i++) {
        events[i] = (tl_new_event){.size = sizeof events[i], .type = "plain"};
        if (i % 3 == 1) {
            events[i].type = "delay";
            events[i].delay_us = HOUR_US;
        } else if (i % 3 == 2) {
            events[i].type = "at";
            events[i].run_at_us = now_us() + 7200000000LL;
            events[i].ttl_us = HOUR_US;
        }
    }
    events[0].id = ID;
    assert_status(f->c, tl_publish_batch(f->c, NULL, events, COUNT, receipts), TL_OK);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(receipts[i].position != 0, i % 3 == 0);
        later += receipts[i].position == 0;
    }
    assert_int_equal(later, 1000);
    assert_string_equal(receipts[0].id, ID);
    assert_int_equal(event_count(f->db), 500);
    assert_int_equal(
        query_number(f->db, "SELECT count(*) FROM trunkline.scheduled WHERE type = 'delay' AND "
                            "run_at BETWEEN now() + interval '50 min' AND now() + interval "
                            "'1 h' AND expires_at IS NULL"),
        500);
    assert_int_equal(query_number(f->db,
                                  "SELECT count(*) FROM trunkline.scheduled WHERE type = 'at' "
                                  "AND expires_at = run_at + interval '1 h'"),
                     500);
    free(events);
    free(receipts);
}

static void in_the_callers_transaction(void **state)
{
    struct fixture *f = *state;
    tl_receipt receipt;

    test_db_exec(f->db, "BEGIN");
    assert_int_equal(tl_publish_in(f->db, NULL, NULL,
                                   TL_NEW_EVENT(.type = "gone", .delay_us = HOUR_US), &receipt,
                                   NULL),
                     TL_OK);
    assert_int_equal(receipt.position, 0);
    test_db_exec(f->db, "ROLLBACK");
    assert_int_equal(tl_publish_in(f->db, NULL, NULL,
                                   TL_NEW_EVENT(.type = "kept", .run_at_us = now_us() + 60000000),
                                   &receipt, NULL),
                     TL_OK);
    assert_int_equal(
        query_number(f->db, "SELECT count(*) FROM trunkline.scheduled WHERE type = 'kept'"), 1);
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.scheduled"), 1);
}

static void cancel_and_reschedule(void **state)
{
    struct fixture *f = *state;
    tl_receipt first, second;

    assert_status(f->c,
                  tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "a", .delay_us = HOUR_US), &first),
                  TL_OK);
    assert_status(f->c,
                  tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "b", .delay_us = HOUR_US), &second),
                  TL_OK);
    assert_status(f->c, tl_cancel(f->c, first.id), TL_OK);
    assert_status(f->c, tl_cancel(f->c, first.id), TL_E_NOTFOUND);
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.scheduled"), 1);
    assert_status(f->c, tl_reschedule(f->c, second.id, now_us() + 10800000000LL), TL_OK);
    assert_int_equal(minutes(f->db, "run_at", "b"), 180);
    assert_status(f->c, tl_reschedule(f->c, second.id, 1), TL_OK);
    assert_int_equal(query_number(f->db, "SELECT trunkline.move_due()"), 1);
    assert_status(f->c, tl_cancel(f->c, second.id), TL_E_INVALID);
    assert_contains(message(f->c), "delivery began");
    assert_status(f->c, tl_reschedule(f->c, second.id, 1), TL_E_INVALID);
    assert_status(f->c, tl_reschedule(f->c, ID, 1), TL_E_NOTFOUND);
    assert_status(f->c, tl_reschedule(f->c, ID, 0), TL_E_INVALID);
    assert_status(f->c, tl_reschedule(f->c, ID, INT64_MAX), TL_E_INVALID);
    assert_status(f->c, tl_cancel(f->c, "x"), TL_E_INVALID);
    assert_status(f->c, tl_cancel(f->c, NULL), TL_E_INVALID);
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.topic_bus"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(publish_later),
        test_with_client(an_id_repeats_it),
        test_with_client(refusals_name_the_field),
        test_with_client(batches_mix),
        test_with_client(in_the_callers_transaction),
        test_with_client(cancel_and_reschedule),
    };

    return cmocka_run_group_tests_name("delayed", tests, NULL, NULL);
}
