/* stream.c: tl_stream_* and tl_redact through C: what is known of streams, their settings, deleting and
 * opening again, tombstones, payloads removed for good. The rules have their tests in tests/sql. */
#include "client_test.h"

static void append(struct fixture *f, const char *stream, const char *tenant)
{
    assert_status(
        f->c,
        tl_append(f->c, stream, TL_EXPECT_ANY,
                  TL_NEW_EVENT(.type = "a", .data = "{\"secret\": 1}",
                               .metadata = "{\"user_id\": \"u\", \"correlation_id\": \"c\"}"),
                  1, TL_APPEND_OPTIONS(.tenant_id = tenant), NULL),
        TL_OK);
}

/* Versions of the events that a stream gives, as text. */
static const char *versions(struct fixture *f, const char *stream)
{
    static char text[200];
    const tl_event *e;
    tl_reader *r;

    text[0] = '\0';
    assert_status(f->c, tl_reader_open_stream(f->c, stream, NULL, &r), TL_OK);
    while (tl_reader_next(r, &e) == TL_OK)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%d ", (int)tl_event_version(e));
    assert_string_equal(message(f->c), "");
    r = tl_reader_close(r);
    return text;
}

static void what_is_known_of_streams(void **state)
{
    struct fixture *f = *state;
    tl_streams *s = NULL;
    int64_t version = -1;
    bool exists = true;

    assert_status(f->c, tl_stream_info(f->c, "order-1", NULL, &s), TL_E_NOTFOUND);
    assert_contains(message(f->c), "order-1");
    assert_status(f->c, tl_stream_exists(f->c, "order-1", NULL, &exists), TL_OK);
    assert_false(exists);
    assert_status(f->c, tl_stream_list(f->c, NULL, &s), TL_NOTHING);
    assert_null(s);
    assert_int_equal(tl_streams_count(NULL), 0);
    append(f, "order-1", "T");
    append(f, "order-1", "T");
    append(f, "order-2", NULL);
    append(f, "cart-1", NULL);
    assert_status(f->c, tl_stream_exists(f->c, "order-1", NULL, &exists), TL_OK);
    assert_true(exists);
    assert_status(f->c,
                  tl_stream_exists(f->c, "order-1", TL_STREAM_OPTIONS(.tenant_id = "U"), &exists),
                  TL_OK);
    assert_false(exists);
    assert_status(f->c, tl_stream_info(f->c, "order-1", TL_STREAM_OPTIONS(.tenant_id = "U"), &s),
                  TL_E_NOTFOUND);

    assert_status(f->c, tl_stream_info(f->c, "order-1", TL_STREAM_OPTIONS(.tenant_id = "T"), &s),
                  TL_OK);
    assert_int_equal(tl_streams_count(s), 1);
    assert_string_equal(tl_streams_name(s, 0), "order-1");
    assert_int_equal(tl_streams_version(s, 0), 2);
    assert_int_equal(tl_streams_first_version(s, 0), 1);
    assert_string_equal(tl_streams_state(s, 0), "open");
    assert_string_equal(tl_streams_tenant_id(s, 0), "T");
    assert_int_equal(tl_streams_max_count(s, 0), 0);
    assert_int_equal(tl_streams_max_age_us(s, 0), 0);
    assert_null(tl_streams_metadata(s, 0));
    assert_true(tl_streams_created_at_us(s, 0) > 1600000000000000);
    assert_true(tl_streams_updated_at_us(s, 0) >= tl_streams_created_at_us(s, 0));
    s = tl_streams_free(s);

    assert_status(f->c, tl_stream_list(f->c, TL_STREAM_LIST_OPTIONS(.limit = 2), &s), TL_OK);
    assert_int_equal(tl_streams_count(s), 2);
    assert_string_equal(tl_streams_name(s, 0), "cart-1");
    assert_string_equal(tl_streams_name(s, 1), "order-1");
    s = tl_streams_free(s);
    assert_status(f->c, tl_stream_list(f->c, TL_STREAM_LIST_OPTIONS(.after = "order-1"), &s),
                  TL_OK);
    assert_int_equal(tl_streams_count(s), 1);
    s = tl_streams_free(s);
    assert_status(f->c, tl_stream_list(f->c, TL_STREAM_LIST_OPTIONS(.category = "order-*"), &s),
                  TL_OK);
    assert_int_equal(tl_streams_count(s), 2);
    s = tl_streams_free(s);
    assert_status(f->c, tl_stream_list(f->c, TL_STREAM_LIST_OPTIONS(.tenant_id = "T"), &s), TL_OK);
    assert_int_equal(tl_streams_count(s), 1);
    s = tl_streams_free(s);
    assert_status(f->c, tl_stream_list(f->c, TL_STREAM_LIST_OPTIONS(.limit = 10001), &s),
                  TL_E_INVALID);
    assert_status(f->c, tl_stream_list(f->c, TL_STREAM_LIST_OPTIONS(.topic = "none"), &s),
                  TL_E_NOTFOUND);
    assert_status(f->c, tl_stream_version(f->c, "a\n", NULL, &version), TL_E_INVALID);
    assert_status(f->c, tl_stream_version(f->c, "a", TL_STREAM_OPTIONS(.topic = "none"), &version),
                  TL_E_NOTFOUND);
    assert_int_equal(version, -1);
    assert_null(s);
}

static void settings_of_streams(void **state)
{
    struct fixture *f = *state;
    tl_streams *s = NULL;

    for (int i = 0; i < 5; i++)
        append(f, "order-1", NULL);
    assert_status(f->c, tl_stream_set(f->c, "order-1", 4, TL_STREAM_SET_OPTIONS(.max_count = 2)),
                  TL_E_CONFLICT);
    assert_int_equal(tl_error_actual_version(tl_client_error(f->c)), 5);
    assert_status(f->c,
                  tl_stream_set(f->c, "order-1", 5,
                                TL_STREAM_SET_OPTIONS(.max_count = 2, .max_age_us = 90061000000,
                                                      .metadata = "{\"a\": 1.50}")),
                  TL_OK);
    assert_string_equal(versions(f, "order-1"), "4 5 ");
    assert_status(f->c, tl_stream_info(f->c, "order-1", NULL, &s), TL_OK);
    assert_int_equal(tl_streams_max_count(s, 0), 2);
    assert_int_equal(tl_streams_max_age_us(s, 0), 90061000000);
    assert_string_equal(tl_streams_metadata(s, 0), "{\"a\": 1.50}");
    assert_int_equal(tl_streams_version(s, 0), 5);
    s = tl_streams_free(s);
    assert_status(f->c, tl_stream_set(f->c, "order-1", TL_EXPECT_ANY, NULL),
                  TL_OK); /* all cleared */
    assert_string_equal(versions(f, "order-1"), "1 2 3 4 5 ");
    assert_status(f->c, tl_stream_info(f->c, "order-1", NULL, &s), TL_OK);
    assert_int_equal(tl_streams_max_age_us(s, 0), 0);
    assert_null(tl_streams_metadata(s, 0));
    s = tl_streams_free(s);
    /* months and days as intervals have them */
    test_db_exec(f->db, "UPDATE trunkline.streams SET max_age = '1 month 2 days 3 us'");
    assert_status(f->c, tl_stream_info(f->c, "order-1", NULL, &s), TL_OK);
    assert_int_equal(tl_streams_max_age_us(s, 0), 32 * 86400000000 + 3);
    s = tl_streams_free(s);
    assert_status(f->c,
                  tl_stream_set(f->c, "order-2", TL_EXPECT_NO_STREAM,
                                TL_STREAM_SET_OPTIONS(.tenant_id = "T")),
                  TL_OK);
    assert_status(f->c, tl_stream_info(f->c, "order-2", TL_STREAM_OPTIONS(.tenant_id = "T"), &s),
                  TL_OK);
    assert_int_equal(tl_streams_version(s, 0), 0);
    s = tl_streams_free(s);
    assert_status(
        f->c, tl_stream_set(f->c, "order-1", TL_EXPECT_ANY, TL_STREAM_SET_OPTIONS(.max_count = -1)),
        TL_E_INVALID);
    assert_status(
        f->c,
        tl_stream_set(f->c, "order-1", TL_EXPECT_ANY, TL_STREAM_SET_OPTIONS(.metadata = "[]")),
        TL_E_INVALID);
    assert_status(
        f->c, tl_stream_set(f->c, "order-1", TL_EXPECT_ANY, TL_STREAM_SET_OPTIONS(.metadata = "{")),
        TL_E_INVALID);
    assert_string_equal(message(f->c), "metadata is not valid JSON");
    assert_status(f->c, tl_stream_set(f->c, "order-1", -5, NULL), TL_E_INVALID);
}

static void deleted_and_opened_again(void **state)
{
    struct fixture *f = *state;
    tl_streams *s = NULL;
    tl_appended row;
    int64_t version;

    append(f, "order-1", NULL);
    append(f, "order-1", NULL);
    assert_status(f->c, tl_stream_delete(f->c, "order-1", 1, NULL), TL_E_CONFLICT);
    assert_int_equal(tl_error_expected_version(tl_client_error(f->c)), 1);
    assert_int_equal(tl_error_actual_version(tl_client_error(f->c)), 2);
    assert_status(f->c,
                  tl_stream_delete(f->c, "order-1", 2,
                                   TL_STREAM_DELETE_OPTIONS(.reason = "x", .tenant_id = "T")),
                  TL_E_DENIED);
    assert_status(f->c, tl_stream_delete(f->c, "order-1", 2, NULL), TL_OK);
    assert_status(f->c, tl_stream_delete(f->c, "order-1", TL_EXPECT_ANY, NULL), TL_NOTHING);
    assert_status(f->c, tl_stream_delete(f->c, "none-1", TL_EXPECT_ANY, NULL), TL_NOTHING);
    assert_string_equal(versions(f, "order-1"), "");
    assert_status(f->c, tl_stream_list(f->c, NULL, &s), TL_NOTHING);
    assert_status(f->c, tl_stream_list(f->c, TL_STREAM_LIST_OPTIONS(.include_deleted = true), &s),
                  TL_OK);
    assert_string_equal(tl_streams_state(s, 0), "deleted");
    assert_int_equal(tl_streams_first_version(s, 0), 3);
    s = tl_streams_free(s);
    assert_int_equal(event_count(f->db), 2);

    assert_status(f->c,
                  tl_append(f->c, "order-1", TL_EXPECT_NO_STREAM, TL_NEW_EVENT(.type = "again"), 1,
                            NULL, &row),
                  TL_OK);
    assert_int_equal(row.version, 3);
    assert_string_equal(versions(f, "order-1"), "3 ");

    assert_status(f->c,
                  tl_stream_delete(f->c, "order-1", 3, TL_STREAM_DELETE_OPTIONS(.hard = true)),
                  TL_E_INVALID);
    assert_contains(message(f->c), "reason");
    assert_status(f->c,
                  tl_stream_delete(f->c, "order-1", 3,
                                   TL_STREAM_DELETE_OPTIONS(.hard = true, .reason = "law")),
                  TL_OK);
    assert_status(
        f->c, tl_append(f->c, "order-1", TL_EXPECT_ANY, TL_NEW_EVENT(.type = "a"), 1, NULL, NULL),
        TL_E_CONFLICT);
    assert_contains(tl_error_detail(tl_client_error(f->c)), "tombstone");
    assert_status(f->c, tl_stream_version(f->c, "order-1", NULL, &version), TL_OK);
    assert_int_equal(version, 3);
    assert_int_equal(
        query_number(f->db, "SELECT count(*) FROM trunkline.topic_store WHERE data <> 'null'"), 0);
}

/* The aggregate of a stream that was deleted begins anew; a tombstone is not tried again. */
static int commands;

static void *nothing_create(void *userdata)
{
    (void)userdata;
    return calloc(1, 1);
}

static tl_status nothing_apply(void *state, const tl_event *e, void *userdata)
{
    (void)state;
    (void)e;
    (void)userdata;
    return TL_OK;
}

static tl_status raise_one(tl_aggregate *a, void *userdata)
{
    (void)userdata;
    commands++;
    return tl_aggregate_raise(a, TL_NEW_EVENT(.type = "a"));
}

static void aggregates_of_deleted_streams(void **state)
{
    struct fixture *f = *state;
    tl_repository *r = NULL;
    tl_aggregate *a = NULL;
    int64_t version = -1;

    assert_status(f->c,
                  tl_repository_new(f->c,
                                    TL_AGGREGATE_TYPE(.name = "order", .create = nothing_create,
                                                      .apply = nothing_apply),
                                    NULL, &r),
                  TL_OK);
    append(f, "order-1", NULL);
    append(f, "order-1", NULL);
    assert_status(f->c, tl_stream_delete(f->c, "order-1", 2, NULL), TL_OK);
    assert_status(f->c, tl_repository_load(r, "1", &a), TL_E_NOTFOUND);
    assert_status(
        f->c,
        tl_repository_update(r, "1", raise_one, NULL, TL_UPDATE_OPTIONS(.create = true), &version),
        TL_OK);
    assert_int_equal(version, 3);
    assert_status(f->c, tl_repository_load(r, "1", &a), TL_OK);
    assert_int_equal(tl_aggregate_version(a), 3);
    a = tl_aggregate_free(a);
    assert_status(f->c,
                  tl_stream_delete(f->c, "order-1", 3,
                                   TL_STREAM_DELETE_OPTIONS(.hard = true, .reason = "law")),
                  TL_OK);
    commands = 0;
    assert_status(
        f->c,
        tl_repository_update(r, "1", raise_one, NULL, TL_UPDATE_OPTIONS(.create = true), &version),
        TL_E_CONFLICT);
    assert_int_equal(commands, 1);
    r = tl_repository_free(r);
}

static void payloads_are_removed(void **state)
{
    struct fixture *f = *state;
    const tl_event *e;
    tl_batch *batch = NULL;
    tl_reader *r;
    char ids[2][37];

    append(f, "order-1", NULL);
    append(f, "order-1", NULL);
    assert_status(f->c, tl_reader_open_stream(f->c, "order-1", NULL, &r), TL_OK);
    for (int i = 0; i < 2; i++) {
        assert_status(f->c, tl_reader_next(r, &e), TL_OK);
        assert_false(tl_event_is_redacted(e));
        memcpy(ids[i], tl_event_id(e), sizeof ids[i]);
    }
    r = tl_reader_close(r);
    assert_status(f->c, tl_redact(f->c, ids[0], NULL, NULL), TL_E_INVALID);
    assert_status(f->c, tl_redact(f->c, ids[0], "", NULL), TL_E_INVALID);
    assert_status(f->c, tl_redact(f->c, "x", "gdpr", NULL), TL_E_INVALID);
    assert_status(f->c, tl_redact(f->c, "22222222-2222-4222-8222-222222222222", "gdpr", NULL),
                  TL_E_NOTFOUND);
    assert_status(f->c, tl_redact(f->c, ids[0], "gdpr", TL_REDACT_OPTIONS(.topic = "bus")),
                  TL_E_NOTFOUND);
    assert_status(f->c, tl_redact(f->c, ids[0], "gdpr", NULL), TL_OK);
    assert_status(f->c, tl_redact(f->c, ids[0], "gdpr", NULL), TL_NOTHING);
    assert_status(
        f->c,
        tl_redact(f->c, ids[1], "gdpr", TL_REDACT_OPTIONS(.topic = "store", .keep_metadata = true)),
        TL_OK);
    assert_status(f->c, tl_reader_open_category(f->c, "order", NULL, &r), TL_OK);
    for (int i = 0; i < 2; i++) {
        assert_status(f->c, tl_reader_next(r, &e), TL_OK);
        assert_true(tl_event_is_redacted(e));
        assert_string_equal(tl_event_data(e, NULL), "null");
        assert_int_equal(tl_event_version(e), i + 1);
        assert_contains(tl_event_metadata(e, NULL), "gdpr");
        assert_contains(tl_event_metadata(e, NULL), "correlation_id");
        assert_int_equal(strstr(tl_event_metadata(e, NULL), "user_id") != NULL, i == 1);
    }
    r = tl_reader_close(r);
    assert_status(f->c, tl_find(f->c, ids[0], NULL, &batch), TL_OK);
    assert_true(tl_event_is_redacted(tl_batch_event(batch, 0)));
    batch = tl_batch_free(batch);
    assert_status(f->c, tl_read(f->c, TL_READ_OPTIONS(.topic = "store"), &batch), TL_OK);
    assert_true(tl_event_is_redacted(tl_batch_event(batch, 0)));
    batch = tl_batch_free(batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(what_is_known_of_streams), test_with_client(settings_of_streams),
        test_with_client(deleted_and_opened_again), test_with_client(aggregates_of_deleted_streams),
        test_with_client(payloads_are_removed),
    };

    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
