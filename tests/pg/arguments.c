/* arguments.c: calls that cannot be carried out are refused by the library, with the argument named and
 * nothing sent: the session runs no statement of theirs. */
#include "client_test.h"

#include <trunkline/store.h>

static int64_t writes(PGconn *db)
{
    return query_number(db, "SELECT (SELECT count(*) FROM trunkline.events) + "
                            "(SELECT count(*) FROM trunkline.subscriptions) + "
                            "(SELECT count(*) FROM trunkline.topics)");
}

static void refused(struct fixture *f, tl_status got, tl_status wanted, const char *why)
{
    assert_status(f->c, got, wanted);
    assert_contains(message(f->c), why);
}

/* An array of a caller whose header has another struct than the library's, but for its first. */
static void sizes_in_an_array_differ(void **state)
{
    struct fixture *f = *state;
    tl_new_event events[2] = {*TL_NEW_EVENT(.type = "a.b"), *TL_NEW_EVENT(.type = "a.b")};
    tl_stream_write stream_writes[2] = {
        {.size = sizeof stream_writes[0], .stream = "s-1", .events = events, .event_count = 1},
        {.size = sizeof stream_writes[0], .stream = "s-2", .events = events, .event_count = 1}};
    int64_t before = writes(f->db);

    events[1].size = sizeof events[1] - sizeof(void *);
    refused(f, tl_publish_batch(f->c, NULL, events, 2, NULL), TL_E_INVALID, "size differs");
    refused(f, tl_append(f->c, "s-1", TL_EXPECT_ANY, events, 2, NULL, NULL), TL_E_INVALID,
            "size differs");
    stream_writes[1].size -= sizeof(void *);
    refused(f, tl_append_streams(f->c, stream_writes, 2, NULL, NULL), TL_E_INVALID, "size differs");
    assert_int_equal(tl_error_index(tl_client_error(f->c)), 1);
    assert_int_equal(writes(f->db), before);
}

/* EVT-7, STR-1 */
static void appends(void **state)
{
    struct fixture *f = *state;
    const tl_new_event *event = TL_NEW_EVENT(.type = "a.b");
    tl_stream_write w = {.size = sizeof w, .stream = "s-1", .events = event, .event_count = 1};
    tl_stream_write many[2] = {w, w};
    int64_t before = writes(f->db);

    refused(f,
            tl_append(f->c, "s-1", TL_EXPECT_ANY,
                      TL_NEW_EVENT(.type = "a.b", .ttl_us = 1, .expires_at_us = 4102444800000000),
                      1, NULL, NULL),
            TL_E_INVALID, "expires_at_us and ttl_us are both given");
    w.event_count = TL_MAX_APPEND + 1;
    refused(f, tl_append_streams(f->c, &w, 1, NULL, NULL), TL_E_INVALID,
            "events are more than 10000");
    many[0].event_count = TL_MAX_APPEND; /* together; the first one's are not looked at before */
    many[0].events = NULL;
    refused(f, tl_append_streams(f->c, many, 2, NULL, NULL), TL_E_INVALID, "events is NULL");
    w.event_count = 1;
    w.events = NULL;
    refused(f, tl_append_streams(f->c, &w, 1, NULL, NULL), TL_E_INVALID, "events is NULL");
    refused(f, tl_append_streams(f->c, NULL, 1, NULL, NULL), TL_E_INVALID, "writes are not 1 to");
    assert_int_equal(writes(f->db), before);
}

static void numbers_that_no_column_has(void **state)
{
    struct fixture *f = *state;
    tl_snapshot *snapshot = NULL;
    int64_t before = writes(f->db);

    refused(f,
            tl_snapshot_save(f->c, "s-1", 1, "{}", 2,
                             TL_SNAPSHOT_OPTIONS(.schema_version = UINT32_MAX)),
            TL_E_INVALID, "schema_version is too large");
    refused(
        f,
        tl_snapshot_get(f->c, "s-1", TL_SNAPSHOT_OPTIONS(.schema_version = UINT32_MAX), &snapshot),
        TL_E_INVALID, "schema_version is too large");
    refused(f,
            tl_subscribe(f->c, "s", "**",
                         TL_SUBSCRIBE_OPTIONS(.start = TL_START_POSITION, .start_value = -1)),
            TL_E_INVALID, "start_value is negative");
    refused(f, tl_subscribe(f->c, "s", "**", TL_SUBSCRIBE_OPTIONS(.max_attempts = UINT32_MAX)),
            TL_E_INVALID, "max_attempts is too large");
    refused(f, tl_topic_create(f->c, "t", TL_TOPIC_OPTIONS(.max_event_bytes = UINT32_MAX)),
            TL_E_INVALID, "max_event_bytes is too large");
    refused(f, tl_topic_create(f->c, NULL, NULL), TL_E_INVALID, "topic is NULL");
    assert_int_equal(writes(f->db), before);
}

static tl_verdict done(tl_delivery *d, void *userdata)
{
    (void)d;
    (void)userdata;
    return TL_DONE;
}

/* WRK-2 */
static void a_worker_that_is_over(void **state)
{
    struct fixture *f = *state;
    tl_worker *w = NULL;

    assert_status(f->c, tl_subscribe(f->c, "s", "**", NULL), TL_OK);
    assert_status(f->c, tl_worker_new(f->c, "w", NULL, NULL, &w), TL_OK);
    assert_int_equal(tl_worker_handle(w, "s", NULL, NULL, NULL), TL_E_INVALID);
    assert_contains(tl_error_message(tl_worker_error(w)), "no handler");
    assert_int_equal(tl_worker_handle(w, "s", done, NULL, NULL), TL_OK);
    tl_worker_stop(w);
    assert_int_equal(tl_worker_run(w), TL_OK);
    assert_int_equal(tl_worker_handle(w, "s", done, NULL, NULL), TL_E_CLOSED);
    assert_contains(tl_error_message(tl_worker_error(w)), "worker is stopping");
    tl_worker_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(sizes_in_an_array_differ),
        test_with_client(appends),
        test_with_client(numbers_that_no_column_has),
        test_with_client(a_worker_that_is_over),
    };

    return cmocka_run_group_tests_name("arguments", tests, NULL, NULL);
}
