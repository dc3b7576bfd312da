/* read.c: tl_read and tl_horizon: order, paging, what a page looked at, tenants and patterns, and
 * that reading on misses nothing however late a transaction commits. */
#include "client_test.h"

static void publish(struct fixture *f, const char *type, const char *tenant_id)
{
    assert_status(f->c,
                  tl_publish(f->c, NULL, TL_NEW_EVENT(.type = type, .tenant_id = tenant_id), NULL),
                  TL_OK);
}

static void empty_log(void **state)
{
    struct fixture *f = *state;
    tl_batch *batch = NULL;
    int64_t horizon = -1;

    assert_status(f->c, tl_horizon(f->c, NULL, &horizon), TL_OK);
    assert_int_equal(horizon, 0);
    assert_status(f->c, tl_read(f->c, NULL, &batch), TL_NOTHING);
    assert_int_equal(tl_batch_count(batch), 0);
    assert_int_equal(tl_batch_upto(batch), 0);
    assert_null(tl_batch_token(batch));
    assert_int_equal(tl_batch_attempt(batch, 0), 0);
    batch = tl_batch_free(batch);
}

static void pages_follow_each_other(void **state)
{
    struct fixture *f = *state;
    int64_t after = 0;
    int pages = 0;
    tl_batch *batch = NULL;

    for (int i = 0; i < 25; i++)
        publish(f, i % 2 == 0 ? "a.even" : "a.odd", NULL);
    while (tl_read(f->c, TL_READ_OPTIONS(.after = after, .limit = 10), &batch) == TL_OK) {
        for (size_t i = 0; i < tl_batch_count(batch); i++)
            assert_int_equal(tl_event_position(tl_batch_event(batch, i)), after + 1 + (int64_t)i);
        after = tl_batch_upto(batch);
        batch = tl_batch_free(batch);
        pages++;
    }
    assert_int_equal(tl_batch_upto(batch), 25);
    batch = tl_batch_free(batch);
    assert_int_equal(after, 25);
    assert_int_equal(pages, 3);

    /* a page that a filter left short has looked at everything */
    assert_status(f->c, tl_read(f->c, TL_READ_OPTIONS(.pattern = "*.even", .after = 20), &batch),
                  TL_OK);
    assert_int_equal(tl_batch_count(batch), 3);
    assert_int_equal(tl_batch_upto(batch), 25);
    batch = tl_batch_free(batch);
    assert_status(f->c, tl_read(f->c, TL_READ_OPTIONS(.pattern = "b.*"), &batch), TL_NOTHING);
    assert_int_equal(tl_batch_upto(batch), 25);
    batch = tl_batch_free(batch);
    assert_status(f->c, tl_read(f->c, TL_READ_OPTIONS(.after = 1000), &batch), TL_NOTHING);
    assert_int_equal(tl_batch_upto(batch), 1000);
    batch = tl_batch_free(batch);
}

static void tenants_see_their_own(void **state)
{
    struct fixture *f = *state;
    tl_batch *batch = NULL;

    publish(f, "a", "t1");
    publish(f, "b", "t2");
    publish(f, "c", NULL);
    assert_status(f->c, tl_read(f->c, TL_READ_OPTIONS(.tenant_id = "t2"), &batch), TL_OK);
    assert_int_equal(tl_batch_count(batch), 1);
    assert_string_equal(tl_event_type(tl_batch_event(batch, 0)), "b");
    batch = tl_batch_free(batch);
    assert_status(f->c, tl_read(f->c, NULL, &batch), TL_OK);
    assert_int_equal(tl_batch_count(batch), 3);
    batch = tl_batch_free(batch);
}

static void a_slow_early_writer_is_not_skipped(void **state)
{
    struct fixture *f = *state;
    tl_batch *batch = NULL;
    int64_t after;

    publish(f, "first", NULL);
    test_db_exec(f->db, "BEGIN");
    assert_int_equal(tl_publish_in(f->db, NULL, NULL, TL_NEW_EVENT(.type = "slow"), NULL, NULL),
                     TL_OK);
    publish(f, "fast", NULL);
    assert_status(f->c, tl_read(f->c, NULL, &batch), TL_OK);
    assert_int_equal(tl_batch_count(batch), 1);
    after = tl_batch_upto(batch);
    assert_int_equal(after, 1);
    batch = tl_batch_free(batch);
    test_db_exec(f->db, "COMMIT");
    assert_status(f->c, tl_read(f->c, TL_READ_OPTIONS(.after = after), &batch), TL_OK);
    assert_int_equal(tl_batch_count(batch), 2);
    assert_string_equal(tl_event_type(tl_batch_event(batch, 0)), "slow");
    assert_string_equal(tl_event_type(tl_batch_event(batch, 1)), "fast");
    batch = tl_batch_free(batch);
}

static void bad_options_are_named(void **state)
{
    struct fixture *f = *state;
    tl_batch *batch = NULL;
    int64_t horizon;

    assert_status(f->c, tl_read(f->c, TL_READ_OPTIONS(.limit = TL_MAX_CLAIM + 1), &batch),
                  TL_E_INVALID);
    assert_contains(message(f->c), "10000");
    assert_status(f->c, tl_read(f->c, TL_READ_OPTIONS(.after = -1), &batch), TL_E_INVALID);
    assert_status(f->c, tl_read(f->c, TL_READ_OPTIONS(.pattern = "a*"), &batch), TL_E_INVALID);
    assert_contains(message(f->c), "pattern has *");
    assert_status(f->c, tl_read(f->c, TL_READ_OPTIONS(.topic = "nope"), &batch), TL_E_NOTFOUND);
    assert_status(f->c, tl_horizon(f->c, "nope", &horizon), TL_E_NOTFOUND);
    assert_contains(message(f->c), "nope");
    assert_null(batch);
}

static void json_lines_are_what_the_server_reads(void **state)
{
    struct fixture *f = *state;
    const char *sql = "SELECT ($1::jsonb ->> 'id' = e.id::text AND $1::jsonb -> 'data' = e.data "
                      "AND $1::jsonb -> 'metadata' = e.metadata AND $1::jsonb ->> 'key' = e.key "
                      "AND ($1::jsonb ->> 'created_at')::timestamptz = e.created_at "
                      "AND ($1::jsonb ->> 'expires_at')::timestamptz = e.expires_at "
                      "AND $1::jsonb ->> 'stream' IS NULL)::int FROM trunkline.events e";
    const char *values[1];
    tl_batch *batch = NULL;
    PGresult *res;
    char *json;

    assert_status(f->c,
                  tl_publish(f->c, NULL,
                             TL_NEW_EVENT(.type = "a", .key = "\"\\\n\t\x01 \xc3\xbc",
                                          .data = "{\"\\\"\": [1.50, \"\\n\"]}", .metadata = "{}",
                                          .expires_at_us = 4102444799999999),
                             NULL),
                  TL_OK);
    assert_status(f->c, tl_read(f->c, NULL, &batch), TL_OK);
    json = tl_event_to_json(tl_batch_event(batch, 0), NULL);
    assert_null(strchr(json, '\n'));
    values[0] = json;
    res = PQexecParams(f->db, sql, 1, NULL, values, NULL, NULL, 0);
    assert_string_equal(PQgetvalue(res, 0, 0), "1");
    PQclear(res);
    tl_free(json);
    batch = tl_batch_free(batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(empty_log),
        test_with_client(pages_follow_each_other),
        test_with_client(tenants_see_their_own),
        test_with_client(a_slow_early_writer_is_not_skipped),
        test_with_client(bad_options_are_named),
        test_with_client(json_lines_are_what_the_server_reads),
    };

    return cmocka_run_group_tests_name("read", tests, NULL, NULL);
}
