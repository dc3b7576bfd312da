/* client_parts.c: what the client does without a server: options, names, SQL templates, statement
 * names, parameters, events as JSON, refused calls. */
#include "buf.h"
#include "checksum.h"
#include "internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct longer_options {
    tl_read_options known;
    uint64_t unknown;
};

static void options_of_other_sizes(void **state)
{
    struct longer_options longer = {.known = {.size = sizeof longer, .after = 7}};
    size_t short_size = offsetof(tl_read_options, pattern);
    tl_read_options to;
    struct tl_error e;

    (void)state;
    assert_int_equal(tl__options_load(&e, "x", &to, sizeof to, NULL), TL_OK);
    assert_null(to.topic);
    assert_int_equal(tl__options_load(&e, "x", &to, sizeof to, &longer), TL_OK);
    assert_int_equal(to.after, 7);
    longer.unknown = 1;
    assert_int_equal(tl__options_load(&e, "tl_read", &to, sizeof to, &longer), TL_E_INVALID);
    assert_non_null(strstr(e.message, "tl_read"));
    longer.known.size = short_size; /* a caller of an older header */
    longer.known.pattern = "x";
    assert_int_equal(tl__options_load(&e, "x", &to, sizeof to, &longer), TL_OK);
    assert_int_equal(to.after, 7);
    assert_null(to.pattern);
    longer.known.size = 0;
    assert_int_equal(tl__options_load(&e, "x", &to, sizeof to, &longer), TL_E_INVALID);
}

static void schema_and_topic_names(void **state)
{
    static const char *const schemas[] = {"trunkline", "T", "_x", "My-Schema_1"};
    static const char *const not_schemas[] = {
        "",    "1a",  "-a",   "a b",           "a\"b",
        "a.b", "a'b", "a\\b", "sch\xc3\xa9ma", "a1234567890123456789012345678901234567890"};
    static const char *const not_topics[] = {"", "Bus", "1a", "a-b", "a.b", "a;b", "a b"};

    (void)state;
    for (size_t i = 0; i < sizeof schemas / sizeof schemas[0]; i++)
        assert_int_equal(tl__schema_check(NULL, schemas[i]), TL_OK);
    for (size_t i = 0; i < sizeof not_schemas / sizeof not_schemas[0]; i++)
        assert_int_equal(tl__schema_check(NULL, not_schemas[i]), TL_E_INVALID);
    assert_int_equal(tl__topic_check(NULL, "bus_2"), TL_OK);
    for (size_t i = 0; i < sizeof not_topics / sizeof not_topics[0]; i++)
        assert_int_equal(tl__topic_check(NULL, not_topics[i]), TL_E_INVALID);
}

static void templates_are_expanded(void **state)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf b = TL_BUF_INIT;
    static const char text[] = "@extschema@.topic_@topic@ @> '@' @extschema@@topic@ @ext @";

    (void)state;
    tl__sql_expand(&b, "\"s\"", "bus", text, strlen(text));
    assert_string_equal(b.data, "\"s\".topic_bus @> '@' \"s\"bus @ext @");
    tl__buf_clear(&b);
    tl__sql_expand(&b, "\"s\"", NULL, text, strlen(text));
    assert_string_equal(b.data, "\"s\".topic_@topic@ @> '@' \"s\"@topic@ @ext @");
    tl__buf_clear(&b);
    tl__quote_name(&b, "a\"b");
    assert_string_equal(b.data, "\"a\"\"b\"");
}

static void statement_names_are_digests(void **state)
{
    struct tl__statement a, b, again;

    (void)state;
    assert_int_equal(tl__statement_init(&a, NULL, "\"a\"", NULL, "SELECT @extschema@.x()"), TL_OK);
    assert_int_equal(tl__statement_init(&b, NULL, "\"b\"", NULL, "SELECT @extschema@.x()"), TL_OK);
    assert_int_equal(tl__statement_init(&again, NULL, "\"a\"", NULL, "SELECT @extschema@.x()"),
                     TL_OK);
    assert_string_equal(a.sql, "SELECT \"a\".x()");
    assert_string_equal(a.name, again.name);
    assert_string_not_equal(a.name, b.name);
    assert_int_equal(strlen(a.name), 35);
    tl__statement_done(&a);
    tl__statement_done(&b);
    tl__statement_done(&again);
}

static void checksums(void **state)
{
    static const struct tl__sql_file one[] = {{"a", "bc", 2}};
    static const struct tl__sql_file other[] = {{"ab", "c", 1}};
    char hex[TL__CHECKSUM_SIZE], hex2[TL__CHECKSUM_SIZE];

    (void)state;
    assert_true(tl__checksum("abc", 3, hex));
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_true(tl__checksum_files(one, 1, hex));
    assert_true(tl__checksum_files(other, 1, hex2));
    assert_string_not_equal(hex, hex2);
}

static void parameters_in_binary(void **state)
{
    struct tl__params p = TL_PARAMS_INIT;

    (void)state;
    tl__param_i64(&p, -2);
    tl__param_i32(&p, 258);
    tl__param_time(&p, 946684800000001); /* 2000-01-01 and 1 us */
    tl__param_time(&p, 0);
    tl__param_interval(&p, 3);
    tl__param_text(&p, "abc");
    tl__param_text(&p, NULL);
    assert_int_equal(p.n, 7);
    assert_memory_equal(p.values[0], "\xff\xff\xff\xff\xff\xff\xff\xfe", 8);
    assert_memory_equal(p.values[1], "\0\0\1\2", 4);
    assert_memory_equal(p.values[2], "\0\0\0\0\0\0\0\1", 8);
    assert_null(p.values[3]);
    assert_memory_equal(p.values[4], "\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0\0", 16);
    assert_int_equal(p.lengths[4], 16);
    assert_int_equal(p.lengths[5], 3);
    assert_null(p.values[6]);
    assert_true(tl__time_to_pg(INT64_MIN) == INT64_MIN);
}

static void event_as_json(void **state)
{
    tl_event e = {.position = 7,
                  .id = "01234567-89ab-cdef-0123-456789abcdef",
                  .type = "a.\"b\"",
                  .data = "{\"event_id\": 9007199254740993}",
                  .data_len = 30,
                  .created_at_us = 1767225600000000};
    size_t len;
    char *json;

    (void)state;
    json = tl_event_to_json(&e, &len);
    assert_string_equal(
        json,
        "{\"position\":7,\"id\":\"01234567-89ab-cdef-0123-456789abcdef\",\"type\":\"a.\\\"b\\\""
        "\",\"source\":null,\"stream\":null,\"version\":null,\"key\":null,\"tenant_id\":null,"
        "\"data\":{\"event_id\": 9007199254740993},\"metadata\":null,\"expires_at\":null,"
        "\"created_at\":\"2026-01-01T00:00:00.000000Z\"}");
    assert_int_equal(len, strlen(json));
    tl_free(json);
    e.stream = "order-1";
    e.version = 3;
    e.metadata = "{}";
    e.metadata_len = 2;
    e.expires_at_us = 1767225600000000;
    json = tl_event_to_json(&e, NULL);
    assert_non_null(strstr(json, "\"stream\":\"order-1\",\"version\":3,"));
    assert_non_null(strstr(json, "\"metadata\":{},\"expires_at\":\"2026-01-01T00:00:00.000000Z\""));
    tl_free(json);
}

static void half_open_handles(void **state)
{
    static const char *const secrets[] = {"host=/nowhere password=s3cret b c",
                                          "postgresql://u:s3cret@h:x/y?zz=s3cret",
                                          "password='s3cret"};
    tl_client *c;

    (void)state;
    assert_null(tl_client_close(NULL));
    assert_null(tl_batch_free(NULL));
    assert_int_equal(tl_client_open("host=/nowhere/at/all", NULL, &c), TL_E_CONNECTION);
    assert_true(tl_error_is_retriable(tl_client_error(c)));
    assert_false(tl_error_outcome_unknown(tl_client_error(c)));
    assert_string_not_equal(tl_error_message(tl_client_error(c)), "");
    assert_int_equal(tl_publish(c, NULL, TL_NEW_EVENT(.type = "a"), NULL), TL_E_CONNECTION);
    assert_false(tl_error_outcome_unknown(tl_client_error(c)));
    assert_null(tl_client_close(c));
    assert_int_equal(tl_client_open("", TL_CLIENT_OPTIONS(.schema = "a b"), &c), TL_E_INVALID);
    assert_true(tl_error_is_fatal(tl_client_error(c)));
    assert_int_equal(tl_publish(c, NULL, TL_NEW_EVENT(.type = "a"), NULL), TL_E_CLOSED);
    tl_client_cancel(c);
    tl_client_wake(c);
    assert_null(tl_client_close(c));
    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++) {
        assert_int_equal(tl_client_open(secrets[i], NULL, &c), TL_E_INVALID);
        assert_null(strstr(tl_error_message(tl_client_error(c)), "s3cret"));
        assert_null(strstr(tl_error_hint(tl_client_error(c)), "s3cret"));
        assert_null(tl_client_close(c));
    }
}

static void script_needs_a_valid_schema(void **state)
{
    char *sql = NULL;

    (void)state;
    assert_int_equal(tl_migrate_sql("a b", &sql), TL_E_INVALID);
    assert_null(sql);
    assert_int_equal(tl_migrate_sql("My-schema", &sql), TL_OK);
    assert_non_null(strstr(sql, "CREATE SCHEMA IF NOT EXISTS \"My-schema\";"));
    assert_null(strstr(sql, "@extschema@"));
    tl_free(sql);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_of_other_sizes),
        cmocka_unit_test(schema_and_topic_names),
        cmocka_unit_test(templates_are_expanded),
        cmocka_unit_test(statement_names_are_digests),
        cmocka_unit_test(checksums),
        cmocka_unit_test(parameters_in_binary),
        cmocka_unit_test(event_as_json),
        cmocka_unit_test(half_open_handles),
        cmocka_unit_test(script_needs_a_valid_schema),
    };

    return cmocka_run_group_tests_name("client_parts", tests, NULL, NULL);
}
