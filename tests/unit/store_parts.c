/* store_parts.c: the parts of the event store that ask no database: a member of a JSON object, upcasters,
 * aggregates in memory. */
#include "json_peek.h"

#include "internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ------------------------------------------------------------------------------------ json -- */

static void members_are_found(void **state)
{
    static const struct {
        const char *json, *name, *value; /* NULL: not found */
    } cases[] = {
        {"{\"a\": 1}", "a", "1"},
        {"{\"a\":1,\"b\":2}", "b", "2"},
        {" { \"a\" : \"x\" , \"b\" : [1, {\"c\": 2}] } ", "b", "[1, {\"c\": 2}]"},
        {"{\"a\": {\"b\": 1}, \"b\": 2}", "b", "2"},
        {"{\"a\": \"\\\", \\\"b\\\": 3\", \"b\": 2}", "b", "2"},
        {"{\"a\": \"\\\\\", \"b\": 2}", "b", "2"},
        {"{\"a\": [\"]\", \"}\"], \"b\": true}", "b", "true"},
        {"{\"ab\": 1, \"a\": \"v\"}", "a", "\"v\""},
        {"{\"b\": null}", "b", "null"},
        {"{\"a\": 1}", "b", NULL},
        {"{}", "a", NULL},
        {"[{\"a\": 1}]", "a", NULL},
        {"\"a\"", "a", NULL},
        {"", "a", NULL},
        {"{\"a\"", "a", NULL},
        {"{\"a\": \"x", "a", NULL},
        {"{\"a\": [1, 2", "a", NULL},
        {"{\"a\": \"\\", "a", NULL},
        {"{\"a\" 1}", "a", NULL},
        {"{\"x\": 1 \"a\": 1}", "a", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        /* without a NUL behind it: nothing reads past the end */
        size_t len = strlen(cases[i].json);
        char *copy = malloc(len + 1);
        const char *value = NULL;
        size_t value_len = 0;
        bool is_found;

        memcpy(copy, cases[i].json, len);
        copy = realloc(copy, len > 0 ? len : 1);
        is_found = tl__json_member(copy, len, cases[i].name, &value, &value_len);
        if (is_found != (cases[i].value != NULL))
            fail_msg("%s: %s", cases[i].json, is_found ? "found" : "not found");
        if (is_found) {
            assert_int_equal(value_len, strlen(cases[i].value));
            assert_memory_equal(value, cases[i].value, value_len);
        }
        free(copy);
    }
}

static void numbers_are_whole(void **state)
{
    static const struct {
        const char *json;
        bool is_found;
        int64_t value;
    } cases[] = {
        {"{\"n\": 0}", true, 0},
        {"{\"n\": -12}", true, -12},
        {"{\"n\": 999999999999999999}", true, 999999999999999999},
        {"{\"n\": 9223372036854775807}", true, INT64_MAX},
        {"{\"n\": 9223372036854775808}", false, 0},
        {"{\"n\": 9999999999999999999}", false, 0},
        {"{\"n\": 1.5}", false, 0},
        {"{\"n\": 1e3}", false, 0},
        {"{\"n\": \"1\"}", false, 0},
        {"{\"n\": -}", false, 0},
        {"{\"n\": null}", false, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t value = -7;

        assert_int_equal(tl__json_member_i64(cases[i].json, strlen(cases[i].json), "n", &value),
                         cases[i].is_found);
        assert_int_equal(value, cases[i].is_found ? cases[i].value : -7);
    }
}

/* ------------------------------------------------------------------------------- upcasters -- */

static struct tl_event event(const char *type, const char *data, const char *metadata)
{
    return (struct tl_event){.type = type,
                             .data = data,
                             .data_len = strlen(data),
                             .metadata = metadata,
                             .metadata_len = metadata != NULL ? strlen(metadata) : 0};
}

/* "x" -> "x+<userdata>"; NULL: no change; "!": fails; "-": leave out */
static tl_status append_mark(const tl_event *e, const char *data, size_t len, char **ret_data,
                             void *userdata)
{
    const char *mark = userdata;

    assert_int_equal(strlen(data), len);
    assert_ptr_equal(tl_event_data(e, NULL), data);
    if (mark == NULL)
        return TL_OK;
    if (mark[0] == '!') {
        *ret_data = strdup("lost");
        return TL_E_REJECTED;
    }
    if (mark[0] == '-')
        return TL_NOTHING;
    *ret_data = malloc(len + strlen(mark) + 2);
    memcpy(*ret_data, data, len);
    (*ret_data)[len] = '+';
    memcpy(*ret_data + len + 1, mark, strlen(mark) + 1);
    return TL_OK;
}

static char *mark(const char *text)
{
    return (char *)(uintptr_t)text;
}

static void assert_upcast(tl_upcasters *u, const char *type, const char *metadata, const char *data,
                          int32_t version)
{
    struct tl_event e = event(type, "d", metadata);
    const tl_event *got = NULL;

    assert_int_equal(tl_upcast(u, &e, &got), TL_OK);
    assert_string_equal(tl_event_data(got, NULL), data);
    assert_int_equal(tl_event_schema_version(got), version);
    if (strcmp(data, "d") == 0 && version == tl_event_schema_version(&e))
        assert_ptr_equal(got, &e);
}

static void upcasters_are_chained(void **state)
{
    struct tl_event e = event("gap", "d", NULL);
    const tl_event *got = NULL;
    tl_upcasters *u;

    (void)state;
    assert_int_equal(tl_upcasters_new((tl_unknown)3, &u), TL_E_INVALID);
    assert_int_equal(tl_upcasters_new(TL_UNKNOWN_PASS, &u), TL_OK);
    /* registered in any order, of several types */
    assert_int_equal(tl_upcasters_add(u, "b", 2, append_mark, mark("3")), TL_OK);
    assert_int_equal(tl_upcasters_add(u, "c", 1, append_mark, mark("c2")), TL_OK);
    assert_int_equal(tl_upcasters_add(u, "a", 1, append_mark, NULL), TL_OK);
    assert_int_equal(tl_upcasters_add(u, "b", 1, append_mark, mark("2")), TL_OK);
    assert_int_equal(tl_upcasters_add(u, "gap", 2, append_mark, mark("3")), TL_OK);
    assert_int_equal(tl_upcasters_add(u, "bad", 1, append_mark, mark("!")), TL_OK);
    assert_int_equal(tl_upcasters_add(u, "out", 1, append_mark, mark("-")), TL_OK);
    assert_int_equal(tl_upcasters_know(u, "k", 3), TL_OK);
    assert_int_equal(tl_upcasters_know(u, "c", 4), TL_OK);

    assert_upcast(u, "b", NULL, "d+2+3", 3);
    assert_upcast(u, "b", "{\"schema_version\": 1}", "d+2+3", 3);
    assert_upcast(u, "b", "{\"schema_version\": 2}", "d+3", 3);
    assert_upcast(u, "b", "{\"schema_version\": 3}", "d", 3);
    assert_upcast(u, "b", "{\"schema_version\": \"2\"}", "d+2+3", 3); /* no number: 1 */
    assert_upcast(u, "a", NULL, "d", 2);                              /* unchanged, but newer */
    assert_upcast(u, "c", NULL, "d+c2", 2);
    assert_upcast(u, "c", "{\"schema_version\": 4}", "d", 4);
    assert_upcast(u, "k", NULL, "d", 1);
    assert_upcast(u, "none", "{\"schema_version\": 7}", "d", 7);

    assert_int_equal(tl_upcast(u, &e, &got), TL_E_UNSUPPORTED);
    assert_non_null(strstr(tl_error_message(tl_upcasters_error(u)), "version 1"));
    e.type = "bad";
    assert_int_equal(tl_upcast(u, &e, &got), TL_E_REJECTED);
    assert_non_null(strstr(tl_error_message(tl_upcasters_error(u)), "type bad"));
    e.type = "out";
    assert_int_equal(tl_upcast(u, &e, &got), TL_NOTHING);
    /* what is gone needs no newer form */
    e = event("bad", "null", "{\"redacted\": {\"reason\": \"x\"}}");
    assert_int_equal(tl_upcast(u, &e, &got), TL_OK);
    assert_ptr_equal(got, &e);

    assert_int_equal(tl_upcasters_add(u, "b", 1, append_mark, NULL), TL_E_INVALID);
    assert_int_equal(tl_upcasters_add(u, "b", 0, append_mark, NULL), TL_E_INVALID);
    assert_int_equal(tl_upcasters_add(u, "b", 7, NULL, NULL), TL_E_INVALID);
    assert_int_equal(tl_upcasters_add(u, "b..", 7, append_mark, NULL), TL_E_INVALID);
    assert_int_equal(tl_upcasters_know(u, "b", 0), TL_E_INVALID);
    u = tl_upcasters_free(u);
    assert_null(u);
    assert_null(tl_upcasters_free(NULL));
}

static void unknown_events_by_policy(void **state)
{
    static const tl_status expected[] = {TL_OK, TL_NOTHING, TL_E_UNSUPPORTED};

    (void)state;
    for (int policy = 0; policy < 3; policy++) {
        struct tl_event events[] = {event("other", "1", NULL),
                                    event("known", "1", "{\"schema_version\": 3}"),
                                    event("known", "1", "{\"schema_version\": 2}")};
        const tl_event *got = NULL;
        tl_upcasters *u;

        assert_int_equal(tl_upcasters_new((tl_unknown)policy, &u), TL_OK);
        assert_int_equal(tl_upcasters_know(u, "known", 2), TL_OK);
        assert_int_equal(tl_upcast(u, &events[0], &got), expected[policy]);
        assert_int_equal(tl_upcast(u, &events[1], &got), expected[policy]);
        assert_int_equal(tl_upcast(u, &events[2], &got), TL_OK);
        assert_ptr_equal(got, &events[2]);
        u = tl_upcasters_free(u);
    }
}

/* ---------------------------------------------------------------------------------- events -- */

static void redaction_is_seen(void **state)
{
    static const struct {
        const char *data, *metadata;
        bool is_redacted;
    } cases[] = {
        {"null", "{\"redacted\": {\"reason\": \"gdpr\"}}", true},
        {"null", "{\"a\": {\"redacted\": {}}, \"correlation_id\": \"c\"}", false},
        {"null", "{\"redacted\": true}", false},
        {"1", "{\"redacted\": {}}", false},
        {"null", "{}", false},
        {"null", NULL, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tl_event e = event("a", cases[i].data, cases[i].metadata);

        assert_int_equal(tl_event_is_redacted(&e), cases[i].is_redacted);
    }
}

/* ------------------------------------------------------------------------------ aggregates -- */

struct counter {
    int count;
    char last_id[37];
    int64_t last_version;
};

static void *counter_create(void *userdata)
{
    int *created = userdata;

    (*created)++;
    return calloc(1, sizeof(struct counter));
}

static void counter_free(void *state, void *userdata)
{
    int *created = userdata;

    (*created)--;
    free(state);
}

static tl_status counter_apply(void *state, const tl_event *e, void *userdata)
{
    struct counter *c = state;

    (void)userdata;
    if (strcmp(tl_event_type(e), "refused") == 0)
        return TL_E_REJECTED;
    if (strcmp(tl_event_type(e), "added") != 0)
        return TL_NOTHING;
    assert_string_equal(tl_event_stream(e), "counter-a-1");
    assert_int_equal(tl_event_position(e), 0);
    assert_int_equal(tl_event_created_at_us(e), 0);
    c->count += (int)strtol(tl_event_data(e, NULL), NULL, 10);
    c->last_version = tl_event_version(e);
    memcpy(c->last_id, tl_event_id(e), sizeof c->last_id);
    return TL_OK;
}

static void aggregates_in_memory(void **state)
{
    const char *id = "11111111-1111-4111-8111-111111111111";
    int created = 0;
    tl_aggregate_type type = {.size = sizeof type,
                              .name = "counter",
                              .create = counter_create,
                              .apply = counter_apply,
                              .free = counter_free,
                              .userdata = &created};
    tl_repository *r = NULL, *other = NULL;
    tl_aggregate *a = NULL;
    struct counter *c;
    char data[] = "20 garbage";
    tl_client *client;

    (void)state;
    /* nobody answers there, and nobody needs to */
    assert_int_equal(tl_client_open_unchecked("host=/nonexistent", NULL, &client), TL_E_CONNECTION);
    assert_int_equal(tl_repository_new(client, &type, NULL, &r), TL_OK);
    assert_int_equal(tl_repository_new(client, &type, NULL, &other), TL_OK);
    assert_int_equal(tl_repository_create(r, "", &a), TL_E_INVALID);
    assert_int_equal(tl_repository_create(r, "a\n", &a), TL_E_INVALID);
    assert_int_equal(created, 0);
    assert_int_equal(tl_repository_create(r, "a-1", &a), TL_OK);
    c = tl_aggregate_state(a);
    assert_string_equal(tl_aggregate_id(a), "a-1");
    assert_string_equal(tl_aggregate_stream(a), "counter-a-1");

    assert_int_equal(tl_repository_save(r, a), TL_NOTHING);
    assert_int_equal(tl_aggregate_raise(a, TL_NEW_EVENT(.type = "added", .data = "1")), TL_OK);
    assert_int_equal(strlen(c->last_id), 36);
    assert_int_equal(c->last_id[14], '7');
    assert_int_equal(
        tl_aggregate_raise(a, TL_NEW_EVENT(.type = "added", .data = data, .data_len = 2, .id = id)),
        TL_OK);
    data[0] = '9'; /* it was copied */
    assert_string_equal(c->last_id, id);
    assert_int_equal(c->count, 21);
    assert_int_equal(c->last_version, 2);
    assert_int_equal(tl_aggregate_pending(a), 2);
    assert_int_equal(tl_aggregate_version(a), 0);

    assert_int_equal(tl_aggregate_raise(a, TL_NEW_EVENT(.type = "refused")), TL_E_REJECTED);
    assert_int_equal(tl_aggregate_raise(a, TL_NEW_EVENT(.type = "unheard")), TL_E_INVALID);
    assert_int_equal(tl_aggregate_raise(a, TL_NEW_EVENT(.type = "")), TL_E_INVALID);
    assert_int_equal(tl_aggregate_raise(a, TL_NEW_EVENT(.type = "added", .tenant_id = "t")),
                     TL_E_INVALID);
    assert_int_equal(tl_aggregate_raise(a, TL_NEW_EVENT(.type = "added", .ttl_us = 1)),
                     TL_E_INVALID);
    assert_int_equal(tl_aggregate_raise(a, NULL), TL_E_INVALID);
    assert_int_equal(tl_aggregate_pending(a), 2);
    assert_int_equal(tl_aggregate_reject(a, "order already exists"), TL_E_REJECTED);
    assert_string_equal(tl_error_message(tl_client_error(client)), "order already exists");

    assert_int_equal(tl_repository_save(other, a), TL_E_INVALID);
    assert_int_equal(tl_repository_reload(other, a), TL_E_INVALID);
    assert_int_equal(tl_repository_snapshot(other, a), TL_E_INVALID);
    assert_int_equal(tl_repository_snapshot(r, a), TL_E_UNSUPPORTED);
    assert_int_equal(tl_repository_save(r, a), TL_E_CONNECTION);
    assert_false(tl_error_outcome_unknown(tl_client_error(client))); /* it was never sent */
    assert_int_equal(tl_aggregate_pending(a), 2);

    for (int i = 2; i < TL_MAX_APPEND; i++)
        assert_int_equal(tl_aggregate_raise(a, TL_NEW_EVENT(.type = "added", .data = "1")), TL_OK);
    assert_int_equal(tl_aggregate_raise(a, TL_NEW_EVENT(.type = "added", .data = "1")), TL_E_LIMIT);
    assert_int_equal(c->count, 21 + TL_MAX_APPEND - 2);

    a = tl_aggregate_free(a);
    assert_null(tl_aggregate_free(NULL));
    r = tl_repository_free(r);
    other = tl_repository_free(other);
    assert_null(tl_repository_free(NULL));
    assert_int_equal(created, 0);
    client = tl_client_close(client);
}

static tl_status snapshot_nothing(const void *state, char **ret_json, void *userdata)
{
    (void)state;
    (void)ret_json;
    (void)userdata;
    return TL_OK;
}

static void bad_types_are_refused(void **state)
{
    int created = 0;
    const tl_aggregate_type good = {.size = sizeof good,
                                    .name = "t",
                                    .create = counter_create,
                                    .apply = counter_apply,
                                    .userdata = &created};
    tl_repository *r = NULL;
    tl_aggregate_type type;
    tl_client *client;

    (void)state;
    (void)!tl_client_open_unchecked("host=/nonexistent", NULL, &client);
#define refused(member, value)                                                                     \
    do {                                                                                           \
        type = good;                                                                               \
        type.member = (value);                                                                     \
        assert_int_equal(tl_repository_new(client, &type, NULL, &r), TL_E_INVALID);                \
    } while (0)
    refused(name, NULL);
    refused(name, "");
    refused(name, "a-b");
    refused(name, "a\nb");
    refused(create, NULL);
    refused(apply, NULL);
    refused(snapshot, snapshot_nothing);
    refused(unknown, (tl_unknown)3);
    refused(schema_version, (uint32_t)INT32_MAX + 1);
    refused(size, 0);
    assert_int_equal(tl_repository_new(client, &good, TL_REPOSITORY_OPTIONS(.topic = "No"), &r),
                     TL_E_INVALID);
    assert_int_equal(
        tl_repository_new(client, &good, TL_REPOSITORY_OPTIONS(.snapshot_every = 1), &r),
        TL_E_INVALID);
    assert_null(r);
    client = tl_client_close(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_are_found),     cmocka_unit_test(numbers_are_whole),
        cmocka_unit_test(upcasters_are_chained), cmocka_unit_test(unknown_events_by_policy),
        cmocka_unit_test(redaction_is_seen),     cmocka_unit_test(aggregates_in_memory),
        cmocka_unit_test(bad_types_are_refused),
    };

    return cmocka_run_group_tests_name("store_parts", tests, NULL, NULL);
}
