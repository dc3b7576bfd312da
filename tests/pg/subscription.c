/* subscription.c: subscribe, and the pull consumer: claim, ack, nack, extend, release. What a lease
 * promises in every race is proved in tests/sql; here is what the C calls make of it. */
#include "client_test.h"

#include <unistd.h>

#define TOKEN "44444444-4444-4444-8444-444444444444"

static void publish_numbers(struct fixture *f, int n)
{
    for (int i = 0; i < n; i++)
        assert_status(f->c, tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "n.x"), NULL), TL_OK);
}

static void the_same_call_twice_is_one_subscription(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 2; i++)
        assert_status(
            f->c,
            tl_subscribe(f->c, "m/h", "a.*",
                         TL_SUBSCRIBE_OPTIONS(.priority = 9, .ordering = TL_ORDERING_TOTAL,
                                              .tenant_id = "t", .filter = "{\"x\": 1}",
                                              .filter_path = "$.y > 3", .max_attempts = 4,
                                              .retry_delay_us = 2000000,
                                              .retry_cap_us = 7200000000)),
            TL_OK);
    assert_int_equal(
        query_number(f->db, "SELECT count(*) FROM trunkline.subscriptions WHERE name = 'm/h' AND "
                            "pattern = 'a.*' AND priority = 9 AND ordering = 'total' AND "
                            "tenant_id = 't' AND filter = '{\"x\": 1}' AND "
                            "filter_path::text = '($.\"y\" > 3)' AND max_attempts = 4 AND "
                            "retry_delay = '2 s' AND retry_cap = '2 h'"),
        1);
    assert_status(f->c, tl_subscribe(f->c, "m/h", "b", NULL), TL_OK); /* changed, with defaults */
    assert_int_equal(
        query_number(f->db, "SELECT count(*) FROM trunkline.subscriptions WHERE name = 'm/h' AND "
                            "pattern = 'b' AND priority = 5 AND ordering = 'key' AND "
                            "tenant_id IS NULL AND filter IS NULL AND max_attempts = 10 AND "
                            "retry_delay = '1 s' AND retry_cap = '1 h'"),
        1);
    assert_status(f->c, tl_subscribe(f->c, "m/h", "b", TL_SUBSCRIBE_OPTIONS(.topic = "store")),
                  TL_E_INVALID);
    assert_contains(message(f->c), "another topic");
    assert_status(f->c, tl_unsubscribe(f->c, "m/h"), TL_OK);
    assert_status(f->c, tl_unsubscribe(f->c, "m/h"), TL_E_NOTFOUND);
    assert_contains(message(f->c), "m/h");
}

/* SUB-1..3, RET-1, RET-2, SUB-10: each option lands in its column, and none in another. */
static void every_option_has_its_effect(void **state)
{
    static const uint64_t pauses[] = {5000000, 7200000001}; /* the second: not in 31 bits */
    const struct {
        tl_subscribe_options options;
        const char *column, *value;
    } cases[] = {
        {{0}, "backoff", "exponential"},
        {{.backoff = TL_BACKOFF_FIXED}, "backoff", "fixed"},
        {{.backoff = TL_BACKOFF_EXPONENTIAL, .target = "https://example.org/"},
         "backoff",
         "exponential"},
        {{.backoff = TL_BACKOFF_SCHEDULE, .retry_schedule = pauses, .retry_schedule_count = 1},
         "backoff",
         "schedule"},
        {{.retry_schedule = pauses, .retry_schedule_count = 2},
         "retry_schedule",
         "{00:00:05,02:00:00.000001}"},
        {{.retry_schedule = pauses, .retry_schedule_count = 2}, "max_attempts", "3"},
        {{.target = "https://example.org/"}, "max_attempts", "8"},
        {{.target = "https://example.org/"}, "target", "https://example.org/"},
        {{.max_attempts = 4}, "max_attempts", "4"},
        {{.retry_delay_us = 250000}, "retry_delay", "00:00:00.25"},
        {{.retry_delay_us = 7200000000}, "retry_cap", "02:00:00"},
        {{.retry_cap_us = 500000}, "retry_cap", "00:00:00.5"},
        {{.retry_cap_us = 500000}, "retry_delay", "00:00:00.5"},
        {{0}, "on_failure", "block_key"},
        {{.ordering = TL_ORDERING_NONE}, "on_failure", "retry"},
        {{.ordering = TL_ORDERING_NONE}, "ordering", "none"},
        {{.on_failure = TL_ON_FAILURE_RETRY}, "on_failure", "retry"},
        {{.on_failure = TL_ON_FAILURE_BLOCK_KEY, .ordering = TL_ORDERING_TOTAL},
         "on_failure",
         "block_key"},
        {{.on_failure = TL_ON_FAILURE_STOP}, "on_failure", "stop"},
        {{0}, "slots", "1"},
        {{.slots = 8}, "slots", "8"},
        {{0}, "mode", "async"},
        {{.mode = TL_MODE_SYNC}, "mode", "sync"},
        {{0}, "max_in_flight", NULL},
        {{.max_in_flight = 17}, "max_in_flight", "17"},
        {{0}, "rate_limit", NULL},
        {{.rate_limit = 2.5}, "rate_limit", "2.5"},
        {{0}, "timeout", NULL},
        {{.timeout_us = 1500000}, "timeout", "00:00:01.5"},
        {{0}, "track", "none"},
        {{.track_all = true}, "track", "all"},
        {{0}, "target_options", "{}"},
        {{.target_options = "{\"concurrency\": 7}", .target = "exec:true"},
         "target_options",
         "{\"concurrency\": 7}"},
        {{.priority = 2}, "priority", "2"},
        {{.tenant_id = "t"}, "tenant_id", "t"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tl_subscribe_options options = cases[i].options;
        char sql[200];
        PGresult *res;

        options.size = sizeof options;
        assert_status(f->c, tl_subscribe(f->c, "o", "a", &options), TL_OK);
        snprintf(sql, sizeof sql, "SELECT %s FROM trunkline.subscriptions", cases[i].column);
        res = test_db_query(f->db, sql);
        if (PQgetisnull(res, 0, 0) != (cases[i].value == NULL) ||
            strcmp(PQgetvalue(res, 0, 0), cases[i].value ? cases[i].value : "") != 0)
            fail_msg("case %zu: %s is %s", i, cases[i].column, PQgetvalue(res, 0, 0));
        PQclear(res);
        if (options.slots > 1)
            assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.cursors"), 8);
        assert_status(f->c, tl_unsubscribe(f->c, "o"), TL_OK);
    }
}

static void bad_subscriptions_are_named(void **state)
{
    struct fixture *f = *state;
    char long_name[300];
    static const uint64_t pauses[101] = {UINT64_MAX};
    const struct {
        const char *name, *pattern;
        tl_subscribe_options options;
        tl_status status;
        const char *words;
    } cases[] = {
        {"", "a", {0}, TL_E_INVALID, "name"},
        {NULL, "a", {0}, TL_E_INVALID, "name"},
        {long_name, "a", {0}, TL_E_INVALID, "255"},
        {"\xff", "a", {0}, TL_E_INVALID, "UTF-8"},
        {"x", "", {0}, TL_E_INVALID, "pattern is empty"},
        {"x", "a..b", {0}, TL_E_INVALID, "pattern has an empty segment"},
        {"x", "**.b", {0}, TL_E_INVALID, "pattern has *"},
        {"x", long_name, {0}, TL_E_INVALID, "pattern is longer"},
        {"x", "a", {.filter = "{\"secret"}, TL_E_INVALID, "filter is not valid JSON"},
        {"x", "a", {.filter = "[]"}, TL_E_INVALID, "filter is not a JSON object"},
        {"x", "a", {.filter_path = "$.secret >"}, TL_E_INVALID, "filter_path is not valid"},
        {"x", "a", {.filter_path = "$.a"}, TL_E_INVALID, "filter_path is not a predicate"},
        {"x", "a", {.priority = 11}, TL_E_INVALID, "priority"},
        {"x", "a", {.ordering = (tl_ordering)7}, TL_E_INVALID, "ordering"},
        {"x", "a", {.start = (tl_start)7}, TL_E_INVALID, "start"},
        {"x", "a", {.target = "gopher://x"}, TL_E_INVALID, "target"},
        {"x", "a", {.topic = "nope"}, TL_E_NOTFOUND, "nope"},
        {"x", "a", {.tenant_id = ""}, TL_E_INVALID, "tenant_id"},
        {"x", "a", {.backoff = (tl_backoff)9}, TL_E_INVALID, "backoff"},
        {"x", "a", {.backoff = TL_BACKOFF_SCHEDULE}, TL_E_INVALID, "retry_schedule goes with"},
        {"x", "a", {.retry_schedule_count = 1}, TL_E_INVALID, "retry_schedule is not 1 to 100"},
        {"x", "a", {.retry_schedule = pauses}, TL_E_INVALID, "retry_schedule is not 1 to 100"},
        {"x",
         "a",
         {.retry_schedule = pauses, .retry_schedule_count = 101},
         TL_E_INVALID,
         "retry_schedule is not 1 to 100"},
        {"x",
         "a",
         {.retry_schedule = pauses, .retry_schedule_count = 1},
         TL_E_INVALID,
         "pauses of 0 to 1 year"},
        {"x", "a", {.on_failure = (tl_on_failure)4}, TL_E_INVALID, "on_failure"},
        {"x", "a", {.slots = 257}, TL_E_INVALID, "slots is not 1 to 256"},
        {"x", "a", {.slots = UINT32_MAX}, TL_E_INVALID, "slots is too large"},
        {"x", "a", {.slots = 2, .ordering = TL_ORDERING_TOTAL}, TL_E_INVALID, "slots above 1"},
        {"x", "a", {.mode = (tl_mode)2}, TL_E_INVALID, "mode"},
        {"x", "a", {.max_in_flight = UINT32_MAX}, TL_E_INVALID, "max_in_flight is too large"},
        {"x", "a", {.max_in_flight = 1000001}, TL_E_INVALID, "max_in_flight is not"},
        {"x", "a", {.rate_limit = -1}, TL_E_INVALID, "rate_limit"},
        {"x", "a", {.timeout_us = 1}, TL_E_INVALID, "timeout is not 1 ms"},
        {"x", "a", {.target_options = "[]"}, TL_E_INVALID, "target_options is not a JSON object"},
        {"x", "a", {.target_options = "{\"secret"}, TL_E_INVALID, "target_options is not valid"},
        {"x",
         "a",
         {.target_options = "{\"secret", .filter = "{}"},
         TL_E_INVALID,
         "filter or target_options"},
    };

    memset(long_name, 'a', sizeof long_name);
    long_name[256] = '\0';
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tl_subscribe_options options = cases[i].options;

        options.size = sizeof options;
        assert_status(f->c, tl_subscribe(f->c, cases[i].name, cases[i].pattern, &options),
                      cases[i].status);
        assert_contains(message(f->c), cases[i].words);
        assert_null(strstr(message(f->c), "secret"));
    }
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.subscriptions"), 0);
}

static size_t claim_count(struct fixture *f, const char *name)
{
    tl_batch *batch = NULL;
    tl_status status = tl_claim(f->c, name, NULL, &batch);
    size_t count = tl_batch_count(batch);

    if (status != TL_NOTHING)
        assert_status(f->c, status, TL_OK);
    batch = tl_batch_free(batch);
    return count;
}

static void subscribe_at(struct fixture *f, const char *name, tl_start start, int64_t value)
{
    assert_status(
        f->c,
        tl_subscribe(f->c, name, "**", TL_SUBSCRIBE_OPTIONS(.start = start, .start_value = value)),
        TL_OK);
}

static void subscriptions_start_where_told(void **state)
{
    struct fixture *f = *state;
    int64_t now_us;

    publish_numbers(f, 5);
    now_us = query_number(f->db, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8");
    subscribe_at(f, "end", TL_START_END, 0);
    subscribe_at(f, "beginning", TL_START_BEGINNING, 0);
    subscribe_at(f, "position", TL_START_POSITION, 4);
    subscribe_at(f, "hour ago", TL_START_TIME, now_us - 3600000000);
    subscribe_at(f, "soon", TL_START_TIME, now_us + 60000000);
    assert_int_equal(claim_count(f, "end"), 0);
    assert_int_equal(claim_count(f, "beginning"), 5);
    assert_int_equal(claim_count(f, "position"), 1);
    assert_int_equal(claim_count(f, "hour ago"), 5);
    assert_int_equal(claim_count(f, "soon"), 0);
    assert_status(f->c,
                  tl_subscribe(f->c, "beyond", "**",
                               TL_SUBSCRIBE_OPTIONS(.start = TL_START_POSITION, .start_value = 99)),
                  TL_E_INVALID);
    assert_contains(message(f->c), "start_at 99");
}

static void claim_and_settle(void **state)
{
    struct fixture *f = *state;
    tl_batch *batch = NULL;
    tl_batch *other = NULL;
    int64_t settled = -1;
    char token[37];

    assert_status(f->c, tl_subscribe(f->c, "s", "n.*", NULL), TL_OK);
    assert_status(f->c, tl_claim(f->c, "s", NULL, &batch), TL_NOTHING);
    assert_null(batch);
    publish_numbers(f, 10);
    assert_status(f->c, tl_claim(f->c, "s", TL_CLAIM_OPTIONS(.max_events = 6), &batch), TL_OK);
    assert_int_equal(tl_batch_count(batch), 6);
    assert_int_equal(tl_batch_upto(batch), 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(tl_event_position(tl_batch_event(batch, i)), 1 + (int64_t)i);
        assert_int_equal(tl_batch_attempt(batch, i), 1);
    }
    snprintf(token, sizeof token, "%s", tl_batch_token(batch));
    batch = tl_batch_free(batch);
    assert_status(f->c, tl_claim(f->c, "s", NULL, &other),
                  TL_NOTHING); /* ordering key: one lease */
    assert_status(f->c, tl_ack(f->c, token, 2, &settled), TL_OK);
    assert_int_equal(settled, 2);
    assert_status(f->c, tl_nack(f->c, token, 4, "no\xff good \"quoted\"", &settled), TL_OK);
    assert_int_equal(settled, 2); /* 3 is done, 4 failed */
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.retries WHERE "
                                         "\"position\" = 4 AND error_message = "
                                         "'no? good \"quoted\"'"),
                     1);
    assert_status(f->c, tl_extend(f->c, token, 60000000), TL_OK);
    assert_status(f->c, tl_release(f->c, token), TL_OK);
    assert_status(f->c, tl_ack(f->c, token, 0, &settled), TL_E_FENCED);
    assert_string_equal(tl_error_sqlstate(tl_client_error(f->c)), "TL004");
    assert_false(tl_error_is_retriable(tl_client_error(f->c)));
    assert_status(f->c, tl_nack(f->c, token, 5, "x", NULL), TL_E_FENCED);
    assert_status(f->c, tl_extend(f->c, token, 0), TL_E_FENCED);
    assert_status(f->c, tl_release(f->c, token), TL_E_FENCED);
    assert_status(f->c, tl_claim(f->c, "s", NULL, &batch), TL_OK);
    assert_int_equal(tl_event_position(tl_batch_event(batch, 0)), 5);
    assert_int_equal(tl_batch_attempt(batch, 0), 1); /* released: no attempt counted */
    assert_status(f->c, tl_ack(f->c, tl_batch_token(batch), 0, &settled), TL_OK);
    assert_int_equal(settled, (int64_t)tl_batch_count(batch));
    batch = tl_batch_free(batch);
}

static void bad_claims_are_named(void **state)
{
    struct fixture *f = *state;
    tl_batch *batch = NULL;

    assert_status(f->c, tl_claim(f->c, "nope", NULL, &batch), TL_E_NOTFOUND);
    assert_contains(message(f->c), "nope");
    assert_status(f->c, tl_claim(f->c, NULL, NULL, &batch), TL_E_INVALID);
    assert_status(f->c,
                  tl_claim(f->c, "x", TL_CLAIM_OPTIONS(.max_events = TL_MAX_CLAIM + 1), &batch),
                  TL_E_INVALID);
    assert_contains(message(f->c), "10000");
    assert_status(f->c, tl_ack(f->c, "not-a-token", 0, NULL), TL_E_INVALID);
    assert_contains(message(f->c), "token is not a uuid");
    assert_status(f->c, tl_ack(f->c, NULL, 0, NULL), TL_E_INVALID);
    assert_status(f->c, tl_ack(f->c, TOKEN, 0, NULL), TL_E_FENCED);
    assert_status(f->c, tl_subscribe(f->c, "s", "**", NULL), TL_OK);
    assert_status(f->c, tl_claim(f->c, "s", TL_CLAIM_OPTIONS(.lease_us = UINT64_MAX), &batch),
                  TL_E_INVALID);
}

static void the_wrong_isolation_level_is_refused(void **state)
{
    struct fixture *f = *state;
    char conninfo[512];
    tl_batch *batch = NULL;
    int64_t horizon;
    tl_client *c;

    snprintf(conninfo, sizeof conninfo,
             "%s options='-c default_transaction_isolation=repeatable\\\\ read'", f->conninfo);
    assert_status(f->c, tl_subscribe(f->c, "s", "**", NULL), TL_OK);
    assert_status(c, tl_client_open(conninfo, NULL, &c), TL_OK);
    assert_status(c, tl_claim(c, "s", NULL, &batch), TL_E_INVALID);
    assert_contains(message(c), "READ COMMITTED");
    assert_status(c, tl_horizon(c, NULL, &horizon), TL_E_INVALID);
    assert_status(c, tl_publish(c, NULL, TL_NEW_EVENT(.type = "a"), NULL), TL_OK);
    c = tl_client_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(the_same_call_twice_is_one_subscription),
        test_with_client(every_option_has_its_effect),
        test_with_client(bad_subscriptions_are_named),
        test_with_client(subscriptions_start_where_told),
        test_with_client(claim_and_settle),
        test_with_client(bad_claims_are_named),
        test_with_client(the_wrong_isolation_level_is_refused),
    };

    return cmocka_run_group_tests_name("subscription", tests, NULL, NULL);
}
