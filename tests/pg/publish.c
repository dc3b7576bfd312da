/* publish.c: tl_publish on a real server: what is stored, what is refused and how it is said
 * (PUB-1, PUB-2, PUB-4, PUB-7, PUB-8). */
#include "client_test.h"

#include <ctype.h>
#include <unistd.h>

#define ID "11111111-1111-4111-8111-111111111111"

/* 255 + 1 bytes */
#define X16 "aaaaaaaaaaaaaaaa"
#define X64 X16 X16 X16 X16
#define TOO_LONG X64 X64 X64 X64

static void every_field_comes_back(void **state)
{
    struct fixture *f = *state;
    const char *data = "{\"event_id\": 9007199254740993, \"price\": 0.1000, \"type\": \"x\"}";
    tl_receipt receipt = {0};
    tl_batch *batch = NULL;
    const tl_event *e;

    assert_status(
        f->c,
        tl_publish(f->c, NULL,
                   TL_NEW_EVENT(.type = "order.created", .data = data, .key = "k\xc3\xbc",
                                .source = "shop", .tenant_id = "t1", .metadata = "{\"user_id\": 7}",
                                .expires_at_us = 1767225600000001),
                   &receipt),
        TL_OK);
    assert_int_equal(receipt.position, 1);
    assert_int_equal(strlen(receipt.id), 36);
    assert_false(receipt.deduplicated);
    assert_status(f->c, tl_read(f->c, NULL, &batch), TL_OK);
    assert_int_equal(tl_batch_count(batch), 1);
    e = tl_batch_event(batch, 0);
    assert_int_equal(tl_event_position(e), 1);
    assert_string_equal(tl_event_id(e), receipt.id);
    assert_string_equal(tl_event_type(e), "order.created");
    assert_string_equal(tl_event_key(e), "k\xc3\xbc");
    assert_string_equal(tl_event_source(e), "shop");
    assert_string_equal(tl_event_tenant_id(e), "t1");
    assert_null(tl_event_stream(e));
    assert_int_equal(tl_event_version(e), 0);
    assert_string_equal(tl_event_metadata(e, NULL), "{\"user_id\": 7}");
    assert_int_equal(tl_event_expires_at_us(e), 1767225600000001);
    assert_true(tl_event_created_at_us(e) > 1600000000000000);
    /* exact numbers; keys inside the payload mean nothing to us */
    assert_contains(tl_event_data(e, NULL), "9007199254740993");
    assert_contains(tl_event_data(e, NULL), "0.1000");
    batch = tl_batch_free(batch);
}

static void absent_fields_stay_absent(void **state)
{
    struct fixture *f = *state;
    tl_batch *batch = NULL;
    const tl_event *e;
    size_t len;

    assert_status(f->c, tl_publish(f->c, "bus", TL_NEW_EVENT(.type = "a"), NULL), TL_OK);
    assert_status(
        f->c,
        tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "b", .data = "[1]xx", .data_len = 3), NULL),
        TL_OK);
    assert_status(f->c, tl_read(f->c, NULL, &batch), TL_OK);
    e = tl_batch_event(batch, 0);
    assert_string_equal(tl_event_data(e, &len), "null");
    assert_int_equal(len, 4);
    assert_null(tl_event_metadata(e, &len));
    assert_int_equal(len, 0);
    assert_null(tl_event_key(e));
    assert_null(tl_event_source(e));
    assert_null(tl_event_tenant_id(e));
    assert_int_equal(tl_event_expires_at_us(e), 0);
    assert_string_equal(tl_event_data(tl_batch_event(batch, 1), NULL), "[1]");
    assert_null(tl_batch_event(batch, 2));
    batch = tl_batch_free(batch);
}

/* Who wants no receipt does not pay for one. */
static void without_a_receipt_nothing_is_returned(void **state)
{
    struct fixture *f = *state;
    const tl_new_event *events[2] = {
        TL_NEW_EVENT(.type = "a", .key = "k"),
        TL_NEW_EVENT(.type = "a", .source = "s", .tenant_id = "t"),
    };
    const char *const last = "SELECT (query LIKE 'INSERT %RETURNING id')::integer FROM "
                             "pg_stat_activity WHERE pid = ";
    tl_receipt receipt;
    char sql[256];

    snprintf(sql, sizeof sql, "%s%d", last, PQbackendPID(tl_client_pgconn(f->c)));
    for (int i = 0; i < 2; i++) {
        assert_status(f->c, tl_publish(f->c, NULL, events[i], NULL), TL_OK);
        assert_int_equal(query_number(f->db, sql), 0);
        assert_status(f->c, tl_publish(f->c, NULL, events[i], &receipt), TL_OK);
        assert_int_equal(query_number(f->db, sql), 1);
        assert_int_equal(receipt.position, event_count(f->db));
    }
    assert_int_equal(event_count(f->db), 4);
}

static void assert_text_is(const char *text, const char *expected)
{
    if (expected == NULL)
        assert_null(text);
    else
        assert_string_equal(text, expected);
}

/* Each set of columns is a statement of its own. */
static void every_shape_comes_back(void **state)
{
    enum { KEY = 1, TENANT = 2, SOURCE = 4, METADATA = 8, EXPIRES = 16, SHAPES = 32 };
    struct fixture *f = *state;
    tl_receipt receipts[SHAPES];
    tl_batch *batch = NULL;

    for (int i = 0; i < SHAPES; i++)
        assert_status(
            f->c,
            tl_publish(f->c, NULL,
                       TL_NEW_EVENT(.type = "a", .data = "{\"n\": 1}", .key = i & KEY ? "k" : NULL,
                                    .tenant_id = i & TENANT ? "t" : NULL,
                                    .source = i & SOURCE ? "s" : NULL,
                                    .metadata = i & METADATA ? "{\"m\": 1}" : NULL,
                                    .expires_at_us = i & EXPIRES ? 1767225600000001 : 0),
                       &receipts[i]),
            TL_OK);
    assert_status(f->c, tl_read(f->c, NULL, &batch), TL_OK);
    assert_int_equal(tl_batch_count(batch), SHAPES);
    for (int i = 0; i < SHAPES; i++) {
        const tl_event *e = tl_batch_event(batch, (size_t)i);

        assert_int_equal(tl_event_position(e), receipts[i].position);
        assert_string_equal(tl_event_id(e), receipts[i].id);
        assert_string_equal(tl_event_type(e), "a");
        assert_string_equal(tl_event_data(e, NULL), "{\"n\": 1}");
        assert_text_is(tl_event_key(e), i & KEY ? "k" : NULL);
        assert_text_is(tl_event_tenant_id(e), i & TENANT ? "t" : NULL);
        assert_text_is(tl_event_source(e), i & SOURCE ? "s" : NULL);
        assert_text_is(tl_event_metadata(e, NULL), i & METADATA ? "{\"m\": 1}" : NULL);
        assert_int_equal(tl_event_expires_at_us(e), i & EXPIRES ? 1767225600000001 : 0);
    }
    batch = tl_batch_free(batch);
}

static void assert_stored_at(PGconn *db, const tl_receipt *receipt)
{
    char sql[200];

    snprintf(sql, sizeof sql, "SELECT \"position\" FROM trunkline.topic_far WHERE id = '%s'",
             receipt->id);
    assert_int_equal(receipt->position, query_number(db, sql));
}

/* tl_publish reads it from the id that the server made, but not from an id of the caller. */
static void the_position_is_the_stored_one_at_both_ends(void **state)
{
    static const char *const ends[] = {
        "SELECT setval('trunkline.position_far', 0)",
        "SELECT setval('trunkline.position_far', 1 << 29)",
        "SELECT trunkline.add_leaf('far', (1 << 18) - 1), "
        "setval('trunkline.position_far', (1::bigint << 48) - 4)",
    };
    static const int64_t firsts[] = {1, (1 << 29) + 1, (1LL << 48) - 3};
    static const char *const ids[] = {"ffffffff-ffff-ffff-ffff-fffffffffff0",
                                      "ffffffff-ffff-ffff-ffff-fffffffffff1",
                                      "00000000-0000-0000-0000-000000000000"};
    struct fixture *f = *state;
    tl_receipt receipt;

    assert_status(f->c, tl_topic_create(f->c, "far", NULL), TL_OK);
    for (int i = 0; i < 3; i++) {
        test_db_exec(f->db, ends[i]);
        assert_status(f->c, tl_publish(f->c, "far", TL_NEW_EVENT(.type = "a"), &receipt), TL_OK);
        assert_int_equal(receipt.position, firsts[i]);
        assert_stored_at(f->db, &receipt);
        assert_int_equal(tl_publish_in(f->db, NULL, "far", TL_NEW_EVENT(.type = "a", .source = "s"),
                                       &receipt, NULL),
                         TL_OK);
        assert_int_equal(receipt.position, firsts[i] + 1);
        assert_stored_at(f->db, &receipt);
        assert_status(f->c,
                      tl_publish(f->c, "far", TL_NEW_EVENT(.type = "a", .id = ids[i]), &receipt),
                      TL_OK);
        assert_string_equal(receipt.id, ids[i]);
        assert_int_equal(receipt.position, firsts[i] + 2);
        assert_stored_at(f->db, &receipt);
    }
}

static void bad_input_is_named_and_not_stored(void **state)
{
    struct fixture *f = *state;
    const struct {
        tl_new_event event;
        tl_status status;
        const char *words;
    } cases[] = {
        {{.type = NULL}, TL_E_INVALID, "type is empty"},
        {{.type = ""}, TL_E_INVALID, "type is empty"},
        {{.type = "a..b"}, TL_E_INVALID, "type has an empty segment"},
        {{.type = "a.*"}, TL_E_INVALID, "type contains *"},
        {{.type = TOO_LONG}, TL_E_INVALID, "type is longer than 255 bytes"},
        {{.type = "a\xff"}, TL_E_INVALID, "type is not valid UTF-8"},
        {{.type = "a", .key = TOO_LONG}, TL_E_INVALID, "key is not 1 to 255 bytes"},
        {{.type = "a", .key = ""}, TL_E_INVALID, "key is not 1 to 255 bytes"},
        {{.type = "a", .key = "\xc3"}, TL_E_INVALID, "key is not valid UTF-8"},
        {{.type = "a", .source = TOO_LONG}, TL_E_INVALID, "source is not 1 to 255 bytes"},
        {{.type = "a", .tenant_id = TOO_LONG}, TL_E_INVALID, "tenant_id is not 1 to 255 bytes"},
        {{.type = "a", .id = "event-123"}, TL_E_INVALID, "id is not a uuid"},
        {{.type = "a", .data = "{\"secret"}, TL_E_INVALID, "not valid JSON"},
        {{.type = "a", .data = ""}, TL_E_INVALID, "not valid JSON"},
        {{.type = "a", .data = "{\"secret\": \"\\u0000\"}"}, TL_E_INVALID, "\\u0000"},
        {{.type = "a", .data = "\"secret\xff\""}, TL_E_INVALID, "data is not valid UTF-8"},
        {{.type = "a", .data = "\"secret\0\"", .data_len = 9}, TL_E_INVALID, "NUL"},
        {{.type = "a", .metadata = "[]"}, TL_E_INVALID, "metadata is not a JSON object"},
        {{.type = "a", .metadata = "{\"secret"}, TL_E_INVALID, "not valid JSON"},
        {{.type = "a", .id = ID, .data = "{\"secret"}, TL_E_INVALID, "not valid JSON"},
        {{.type = "a", .id = ID, .metadata = "3"}, TL_E_INVALID, "metadata is not a JSON object"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tl_new_event event = cases[i].event;
        tl_receipt receipt = {.position = 77};

        event.size = sizeof event;
        assert_status(f->c, tl_publish(f->c, NULL, &event, &receipt), cases[i].status);
        assert_contains(message(f->c), cases[i].words);
        assert_int_equal(receipt.position, 77); /* outputs are written on success only */
        assert_null(strstr(message(f->c), "secret"));
        assert_null(strstr(tl_error_detail(tl_client_error(f->c)), "secret"));
        assert_false(isupper((unsigned char)message(f->c)[0]) && message(f->c)[1] != 'S');
        assert_false(tl_error_is_retriable(tl_client_error(f->c)));
    }
    assert_status(f->c, tl_publish(f->c, NULL, NULL, NULL), TL_E_INVALID);
    assert_status(f->c, tl_publish(f->c, NULL, &(tl_new_event){.type = "a"}, NULL), TL_E_INVALID);
    assert_contains(message(f->c), "size");
    assert_int_equal(event_count(f->db), 0);
    /* and the client is as good as new */
    assert_status(f->c, tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "a"), NULL), TL_OK);
}

/* JSON text of `size` bytes that does not compress. */
static char *noise(size_t size)
{
    char *text = malloc(size + 1);
    uint64_t x = 88172645463325252u;

    assert_non_null(text);
    for (size_t i = 0; i < size; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        text[i] = (char)('a' + x % 26);
    }
    text[0] = text[size - 1] = '"';
    text[size] = '\0';
    return text;
}

static void the_size_limit_is_stated(void **state)
{
    struct fixture *f = *state;
    char *large = noise(TL_MAX_EVENT_BYTES + 100);
    char *fits = noise(TL_MAX_EVENT_BYTES - 100);

    assert_status(f->c, tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "a", .data = large), NULL),
                  TL_E_LIMIT);
    assert_contains(message(f->c), "1048576");
    assert_contains(message(f->c), "bus");
    assert_status(f->c,
                  tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "a", .data = large, .id = ID), NULL),
                  TL_E_LIMIT);
    assert_contains(message(f->c), "1048576");
    assert_status(f->c, tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "a", .data = fits), NULL),
                  TL_OK);
    assert_status(f->c, tl_topic_create(f->c, "tiny", TL_TOPIC_OPTIONS(.max_event_bytes = 1024)),
                  TL_OK);
    assert_status(f->c, tl_publish(f->c, "tiny", TL_NEW_EVENT(.type = "a", .data = fits), NULL),
                  TL_E_LIMIT);
    assert_contains(message(f->c), "1024");
    assert_int_equal(event_count(f->db), 1);
    free(large);
    free(fits);
}

static void unknown_topics_are_not_found(void **state)
{
    struct fixture *f = *state;

    assert_status(f->c, tl_publish(f->c, "nope", TL_NEW_EVENT(.type = "a"), NULL), TL_E_NOTFOUND);
    assert_contains(message(f->c), "topic \"nope\" does not exist");
    assert_status(f->c, tl_publish(f->c, "nope", TL_NEW_EVENT(.type = "a", .id = ID), NULL),
                  TL_E_NOTFOUND);
    assert_status(f->c, tl_publish(f->c, "No-pe", TL_NEW_EVENT(.type = "a"), NULL), TL_E_INVALID);
    assert_contains(message(f->c), "topic name is not valid");
    assert_status(f->c, tl_publish(f->c, "", TL_NEW_EVENT(.type = "a"), NULL), TL_E_INVALID);
    assert_status(f->c, tl_topic_create(f->c, "nope", NULL), TL_OK);
    assert_status(f->c, tl_publish(f->c, "nope", TL_NEW_EVENT(.type = "a"), NULL), TL_OK);
    test_db_exec(f->db, "SELECT trunkline.drop_topic('nope', force => true)");
    assert_status(f->c, tl_publish(f->c, "nope", TL_NEW_EVENT(.type = "a"), NULL), TL_E_NOTFOUND);
}

static void an_id_publishes_once(void **state)
{
    struct fixture *f = *state;
    const tl_new_event *event = TL_NEW_EVENT(.type = "a", .data = "{\"x\": 1, \"y\": 2}", .id = ID);
    tl_receipt first, again;

    assert_status(f->c, tl_publish(f->c, NULL, event, &first), TL_OK);
    assert_false(first.deduplicated);
    assert_string_equal(first.id, ID);
    assert_status(f->c, tl_publish(f->c, NULL, event, &again), TL_OK);
    assert_true(again.deduplicated);
    assert_int_equal(again.position, first.position);
    assert_status(f->c,
                  tl_publish(f->c, NULL,
                             TL_NEW_EVENT(.type = "a", .data = "{\"y\":2,\"x\":1}", .id = ID),
                             &again),
                  TL_OK);
    assert_true(again.deduplicated);
    assert_status(f->c, tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "b", .id = ID), &again),
                  TL_E_CONFLICT);
    assert_string_equal(tl_error_sqlstate(tl_client_error(f->c)), "TL003");
    assert_contains(tl_error_detail(tl_client_error(f->c)), "\"position\": 1");
    assert_int_equal(event_count(f->db), 1);
}

static void missing_schema_says_migrate(void **state)
{
    struct fixture *f = *state;

    test_db_exec(f->db, "ALTER SCHEMA trunkline RENAME TO elsewhere");
    assert_status(f->c, tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "a"), NULL), TL_E_SCHEMA);
    assert_contains(tl_error_hint(tl_client_error(f->c)), "trunkline migrate");
    assert_status(f->c, tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "a", .id = ID), NULL),
                  TL_E_SCHEMA);
}

static void rights_are_needed(void **state)
{
    struct fixture *f = *state;
    char conninfo[512], sql[512], role[64];
    tl_client *c;

    snprintf(role, sizeof role, "publisher_%ld", (long)getpid());
    snprintf(sql, sizeof sql, "CREATE ROLE %s LOGIN", role);
    test_db_exec(f->db, sql);
    snprintf(conninfo, sizeof conninfo, "%s user=%s", f->conninfo, role);
    assert_int_equal(tl_client_open(conninfo, NULL, &c), TL_E_DENIED);
    c = tl_client_close(c);
    snprintf(sql, sizeof sql, "SELECT trunkline.grant_publish('%s')", role);
    test_db_exec(f->db, sql);
    assert_status(c, tl_client_open(conninfo, NULL, &c), TL_OK);
    assert_status(c, tl_publish(c, NULL, TL_NEW_EVENT(.type = "a"), NULL), TL_OK);
    assert_status(c, tl_publish(c, NULL, TL_NEW_EVENT(.type = "a", .id = ID), NULL), TL_OK);
    assert_status(c, tl_publish(c, "store", TL_NEW_EVENT(.type = "a"), NULL), TL_E_DENIED);
    assert_contains(message(c), "topic_store");
    assert_status(c, tl_topic_create(c, "mine", NULL), TL_E_DENIED);
    c = tl_client_close(c);
    snprintf(sql, sizeof sql, "DROP OWNED BY %s; DROP ROLE %s", role, role);
    test_db_exec(f->db, sql);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(every_field_comes_back),
        test_with_client(absent_fields_stay_absent),
        test_with_client(without_a_receipt_nothing_is_returned),
        test_with_client(every_shape_comes_back),
        test_with_client(the_position_is_the_stored_one_at_both_ends),
        test_with_client(bad_input_is_named_and_not_stored),
        test_with_client(the_size_limit_is_stated),
        test_with_client(unknown_topics_are_not_found),
        test_with_client(an_id_publishes_once),
        test_with_client(missing_schema_says_migrate),
        test_with_client(rights_are_needed),
    };

    return cmocka_run_group_tests_name("publish", tests, NULL, NULL);
}
