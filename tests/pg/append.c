/* append.c: tl_append and its kin: expectations and what a conflict tells, all or none, repetition by
 * ids, opaque payloads, several streams, a caller's transaction, tenants. */
#include "client_test.h"

#include <pthread.h>

#define ID1 "11111111-1111-4111-8111-111111111111"
#define ID2 "22222222-2222-4222-8222-222222222222"
#define ID3 "33333333-3333-4333-8333-333333333333"

#define assert_tl(call, expected)                                                                  \
    do {                                                                                           \
        tl_status got_ = (call);                                                                   \
        if (got_ != (expected))                                                                    \
            fail_msg("%s is %s, not %s", #call, tl_status_name(got_), tl_status_name(expected));   \
    } while (0)

static const tl_error *error_of(struct fixture *f)
{
    return tl_client_error(f->c);
}

static tl_status append_one(tl_client *c, const char *stream, int64_t expected)
{
    return tl_append(c, stream, expected, TL_NEW_EVENT(.type = "a.b", .data = "{}"), 1, NULL, NULL);
}

static int64_t version_of(struct fixture *f, const char *stream)
{
    int64_t version = -1;

    assert_status(f->c, tl_stream_version(f->c, stream, NULL, &version), TL_OK);
    return version;
}

/* A query of one text parameter, one row of text "a|b|c". */
static void assert_row(PGconn *db, const char *sql, const char *param, const char *expected)
{
    char got[2000] = "";
    PGresult *res = PQexecParams(db, sql, param != NULL ? 1 : 0, NULL, &param, NULL, NULL, 0);

    for (int i = 0; i < PQnfields(res) && PQntuples(res) > 0; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", i > 0 ? "|" : "",
                 PQgetvalue(res, 0, i));
    PQclear(res);
    assert_string_equal(got, expected);
}

/* EVS-1, EVS-4, PUB-2: what goes in comes out; versions from 1, without a hole. */
static void events_get_versions(void **state)
{
    struct fixture *f = *state;
    tl_new_event events[3] = {
        {.size = sizeof events[0],
         .type = "order.created",
         .data = "{\"total\": 12345678901234567890.10}"},
        {.size = sizeof events[0],
         .type = "order.paid",
         .source = "till",
         .metadata = "{\"user_id\": \"u\"}"},
        {.size = sizeof events[0],
         .type = "order.shipped",
         .data = "[1]garbage",
         .data_len = 3,
         .id = ID1},
    };
    tl_appended one, rows[3];

    assert_status(
        f->c, tl_append(f->c, "order-user-123", TL_EXPECT_NO_STREAM, events, 1, NULL, &one), TL_OK);
    assert_int_equal(one.version, 1);
    assert_int_equal(one.position, 1);
    assert_int_equal(strlen(one.id), 36);
    assert_false(one.deduplicated);
    assert_status(f->c, tl_append(f->c, "order-user-123", 1, events, 3, NULL, rows), TL_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rows[i].version, 2 + i);
        assert_int_equal(rows[i].position, one.position + 1 + i);
    }
    assert_string_equal(rows[2].id, ID1);
    assert_status(f->c, tl_append(f->c, "order-user-123", 4, &events[1], 1, NULL, &one), TL_OK);
    assert_int_equal(one.version, 5);
    assert_int_equal(version_of(f, "order-user-123"), 5);
    assert_int_equal(version_of(f, "cart-user-123"), 0);
    assert_row(f->db,
               "SELECT type, source, stream, version, key, tenant_id, data, metadata FROM "
               "trunkline.topic_store WHERE version = 5",
               NULL, "order.paid|till|order-user-123|5|order-user-123||null|{\"user_id\": \"u\"}");
    assert_row(f->db, "SELECT data FROM trunkline.topic_store WHERE version = 1", NULL,
               "{\"total\": 12345678901234567890.10}");
    assert_row(f->db, "SELECT data, id FROM trunkline.topic_store WHERE version = 4", NULL,
               "[1]|" ID1);
}

/* EVS-2: each expectation against each state; a conflict tells both versions, stores and spends nothing. */
static void expectations(void **state)
{
    static const struct {
        const char *stream; /* "none" has no events, "two" has two */
        int64_t expected;
        tl_status status;
        int64_t actual;
    } cases[] = {
        {"s-none", TL_EXPECT_EXISTS, TL_E_CONFLICT, 0},
        {"s-none", 1, TL_E_CONFLICT, 0},
        {"s-none", 7, TL_E_CONFLICT, 0},
        {"s-two", TL_EXPECT_NO_STREAM, TL_E_CONFLICT, 2},
        {"s-two", 1, TL_E_CONFLICT, 2},
        {"s-two", 3, TL_E_CONFLICT, 2},
        {"s-two", INT64_MAX, TL_E_CONFLICT, 2},
        {"s-two", 2, TL_OK, 0},
        {"s-two", TL_EXPECT_EXISTS, TL_OK, 0},
        {"s-two", TL_EXPECT_ANY, TL_OK, 0},
        {"s-none", TL_EXPECT_NO_STREAM, TL_OK, 0},
        {"s-any", TL_EXPECT_ANY, TL_OK, 0},
    };
    struct fixture *f = *state;

    assert_status(f->c, append_one(f->c, "s-two", 0), TL_OK);
    assert_status(f->c, append_one(f->c, "s-two", 1), TL_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const tl_error *e = error_of(f);
        int64_t spent = query_number(f->db, "SELECT last_value FROM trunkline.position_store");

        assert_status(f->c, append_one(f->c, cases[i].stream, cases[i].expected), cases[i].status);
        if (cases[i].status == TL_OK) {
            assert_true(tl_error_expected_version(e) == TL_EXPECT_ANY);
            assert_int_equal(tl_error_actual_version(e), -1);
            continue;
        }
        assert_string_equal(tl_error_sqlstate(e), "TL001");
        assert_int_equal(tl_error_expected_version(e), cases[i].expected);
        assert_int_equal(tl_error_actual_version(e), cases[i].actual);
        assert_contains(tl_error_detail(e), "\"reason\": \"version\"");
        assert_false(tl_error_is_retriable(e));
        assert_int_equal(query_number(f->db, "SELECT last_value FROM trunkline.position_store"),
                         spent);
    }
    assert_int_equal(event_count(f->db), 7);
    assert_int_equal(version_of(f, "s-two"), 5);
    /* a name that looks like the detail of a conflict does not pass for one */
    assert_status(f->c, append_one(f->c, "x-\", \"actual\": 9, \"expected\": 8", 3), TL_E_CONFLICT);
    assert_int_equal(tl_error_expected_version(error_of(f)), 3);
    assert_int_equal(tl_error_actual_version(error_of(f)), 0);
}

struct racer {
    pthread_t thread;
    const char *conninfo;
    int64_t expected;
    int wins, conflicts, others;
    int rounds;
    int number;
};

static void *race(void *arg)
{
    struct racer *r = arg;
    tl_client *c;

    if (tl_client_open(r->conninfo, NULL, &c) != TL_OK)
        r->others++;
    for (int i = 0; i < r->rounds; i++) {
        tl_status status = append_one(c, "race-1", r->expected < 0 ? r->expected : r->expected + i);

        if (status == TL_OK)
            r->wins++;
        else if (status == TL_E_CONFLICT &&
                 strcmp(tl_error_sqlstate(tl_client_error(c)), "TL001") == 0)
            r->conflicts++;
        else
            r->others++;
    }
    c = tl_client_close(c);
    return NULL;
}

static void run_race(struct fixture *f, struct racer *racers, int n, int64_t expected, int rounds)
{
    for (int i = 0; i < n; i++) {
        racers[i] = (struct racer){.conninfo = f->conninfo, .expected = expected, .rounds = rounds};
        assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < n; i++)
        assert_int_equal(pthread_join(racers[i].thread, NULL), 0);
}

/* EVS-3: any never conflicts, of an exact version one wins; versions stay dense. */
static void writers_race(void **state)
{
    struct fixture *f = *state;
    struct racer racers[4];
    int wins = 0, others = 0;

    run_race(f, racers, 4, TL_EXPECT_ANY, 25);
    for (int i = 0; i < 4; i++)
        assert_int_equal(racers[i].wins, 25);
    assert_int_equal(version_of(f, "race-1"), 100);
    run_race(f, racers, 4, 100, 1);
    for (int i = 0; i < 4; i++) {
        wins += racers[i].wins;
        others += racers[i].others;
    }
    assert_int_equal(wins, 1);
    assert_int_equal(others, 0);
    assert_row(f->db,
               "SELECT count(*), max(version), count(DISTINCT version) FROM trunkline.topic_store",
               NULL, "101|101|101");
    assert_row(f->db,
               "SELECT count(*) FROM (SELECT version, row_number() OVER (ORDER BY position) AS n "
               "FROM trunkline.topic_store) x WHERE version <> n",
               NULL, "0");
}

/* Bad calls are refused by name, whatever is said with the rest, and store nothing (EVS-1, EVS-5). */
static void bad_calls(void **state)
{
    struct fixture *f = *state;
    char longest[257];
    char *large = malloc(1100002);
    tl_new_event events[4] = {{.size = sizeof events[0], .type = "a"},
                              {.size = sizeof events[0], .type = "a"},
                              {.size = sizeof events[0], .type = "a"},
                              {.size = sizeof events[0], .type = "a"}};
    const struct {
        const char *stream;
        int64_t expected;
        const char *message;
    } cases[] = {
        {NULL, 0, "stream is NULL"},
        {"", 0, "stream is not 1 to 255"},
        {longest, 0, "stream is not 1 to 255"},
        {"a\nb", 0, "control character"},
        {"a\x7f", 0, "control character"},
        {"a\xff", 0, "UTF-8"},
        {"s", -2, "expected_version"},
        {"s", INT64_MIN + 1, "expected_version"},
    };

    memset(longest, 'x', 256);
    longest[256] = '\0';
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_status(f->c, append_one(f->c, cases[i].stream, cases[i].expected), TL_E_INVALID);
        assert_contains(message(f->c), cases[i].message);
    }
    assert_status(f->c, tl_append(f->c, "s", 0, events, 0, NULL, NULL), TL_E_INVALID);
    assert_contains(message(f->c), "1 to 10000");
    assert_status(f->c, tl_append(f->c, "s", 0, NULL, 1, NULL, NULL), TL_E_INVALID);
    assert_status(f->c, tl_append(f->c, "s", 0, events, TL_MAX_APPEND + 1, NULL, NULL),
                  TL_E_INVALID);
    assert_status(f->c,
                  tl_append(f->c, "s", 0, events, 1, TL_APPEND_OPTIONS(.topic = "no such"), NULL),
                  TL_E_INVALID);
    assert_status(f->c,
                  tl_append(f->c, "s", 0, events, 1, TL_APPEND_OPTIONS(.topic = "none"), NULL),
                  TL_E_NOTFOUND);
    assert_status(f->c, tl_append(f->c, "s", 0, events, 1, TL_APPEND_OPTIONS(.topic = "bus"), NULL),
                  TL_E_UNSUPPORTED);

#define refused(member, value, expected_status, part)                                              \
    do {                                                                                           \
        tl_new_event kept = events[2];                                                             \
        events[2].member = (value);                                                                \
        assert_status(f->c, tl_append(f->c, "s", 0, events, 4, NULL, NULL), expected_status);      \
        assert_int_equal(tl_error_index(error_of(f)), 2);                                          \
        assert_contains(message(f->c), part);                                                      \
        assert_status(f->c, tl_append(f->c, "s", 0, &events[2], 1, NULL, NULL), expected_status);  \
        assert_contains(message(f->c), part);                                                      \
        events[2] = kept;                                                                          \
    } while (0)
    memset(large, '1', 1100001);
    large[0] = large[1100000] = '"';
    large[1100001] = '\0';
    refused(type, "a..b", TL_E_INVALID, "type has");
    refused(id, "no", TL_E_INVALID, "id is not a uuid");
    refused(tenant_id, "t", TL_E_INVALID, "tenant_id differs");
    refused(run_at_us, 1, TL_E_INVALID, "run_at_us");
    refused(delay_us, 1, TL_E_INVALID, "delay_us");
    refused(data, "{", TL_E_INVALID, "not valid JSON");
    refused(data, "\"\\u0000\"", TL_E_INVALID, "u0000");
    refused(data, "1}, {\"type\": \"evil\"", TL_E_INVALID, "not valid JSON");
    refused(metadata, "{\"a\": 1", TL_E_INVALID, "not valid JSON");
    refused(metadata, "[]", TL_E_INVALID, "metadata is not a JSON object");
    refused(data, large, TL_E_LIMIT, "1048576 bytes");
    events[2].id = ID1;
    refused(ttl_us, 1000000, TL_E_INVALID, "ttl_us");
    events[2].key = "k"; /* by way of append() */
    refused(data, "{", TL_E_INVALID, "not valid JSON");
    refused(data, large, TL_E_LIMIT, "1048576 bytes");
    refused(metadata, "[]", TL_E_INVALID, "metadata is not a JSON object");
    assert_int_equal(event_count(f->db), 0);
    assert_int_equal(version_of(f, "s"), 0);
    free(large);
}

/* EVS-16: a client that was never opened refuses every call, and only that. */
static void a_closed_client(void **state)
{
    struct fixture *f = *state;
    tl_streams *streams = NULL;
    tl_snapshot *snapshot = NULL;
    tl_batch *batch = NULL;
    const tl_event *e = NULL;
    tl_reader *r = NULL;
    int64_t version = -1;
    bool exists = true;
    tl_client *c;

    assert_status(c, tl_client_open(f->conninfo, TL_CLIENT_OPTIONS(.schema = "no such name"), &c),
                  TL_E_INVALID);
    assert_status(c, append_one(c, "s", 0), TL_E_CLOSED);
    assert_true(tl_error_is_fatal(tl_client_error(c)));
    assert_status(c, tl_stream_version(c, "s", NULL, &version), TL_E_CLOSED);
    assert_status(c, tl_stream_exists(c, "s", NULL, &exists), TL_E_CLOSED);
    assert_status(c, tl_stream_info(c, "s", NULL, &streams), TL_E_CLOSED);
    assert_status(c, tl_stream_list(c, NULL, &streams), TL_E_CLOSED);
    assert_status(c, tl_stream_set(c, "s", 0, NULL), TL_E_CLOSED);
    assert_status(c, tl_stream_delete(c, "s", 0, NULL), TL_E_CLOSED);
    assert_status(c, tl_redact(c, ID1, "x", NULL), TL_E_CLOSED);
    assert_status(c, tl_find(c, ID1, NULL, &batch), TL_E_CLOSED);
    assert_status(c, tl_link(c, "s", ID1, NULL, NULL), TL_E_CLOSED);
    assert_status(c, tl_snapshot_get(c, "s", NULL, &snapshot), TL_E_CLOSED);
    assert_status(c, tl_reader_open_stream(c, "s", NULL, &r), TL_OK);
    assert_status(c, tl_reader_next(r, &e), TL_E_CLOSED);
    r = tl_reader_close(r);
    c = tl_client_close(c);
    assert_null(tl_client_close(c)); /* once more is nothing */
    assert_int_equal(version, -1);
    assert_true(exists);
    assert_status(f->c, append_one(f->c, "s", 0), TL_OK);
}

/* SEC-3: whatever stands in a name or a payload is only that. */
static void nothing_is_interpreted(void **state)
{
    static const char *const nasty[] = {
        "x'); DROP TABLE trunkline.events; --",
        "{\"a\": 1}",
        "\",\"type\":\"evil",
        "a,b}",
        "\\\"",
        "$1",
        "%s%n",
        "NULL",
        "@topic@",
    };
    struct fixture *f = *state;
    char json[200];

    for (size_t i = 0; i < sizeof nasty / sizeof nasty[0]; i++) {
        tl_new_event events[2] = {
            {.size = sizeof events[0], .type = "a", .data = json, .source = nasty[i]},
            {.size = sizeof events[0], .type = "a", .metadata = json, .key = nasty[i]}};
        const char *values[2] = {nasty[i], json};
        const tl_stream_write write = {.size = sizeof write,
                                       .stream = nasty[i],
                                       .expected_version = 4,
                                       .events = events,
                                       .event_count = 2};
        PGresult *res = PQexecParams(f->db, "SELECT jsonb_build_object('nasty', $1::text)", 1, NULL,
                                     values, NULL, NULL, 0);

        snprintf(json, sizeof json, "%s", PQgetvalue(res, 0, 0));
        PQclear(res);
        /* alone, in arrays, by way of append(), by way of append_streams() */
        assert_status(f->c, tl_append(f->c, nasty[i], 0, events, 1, NULL, NULL), TL_OK);
        assert_status(f->c, tl_append(f->c, nasty[i], 1, &events[1], 1, NULL, NULL), TL_OK);
        assert_status(f->c, tl_append(f->c, nasty[i], 2, events, 2, NULL, NULL), TL_OK);
        assert_status(f->c, tl_append_streams(f->c, &write, 1, NULL, NULL), TL_OK);
        res = PQexecParams(f->db,
                           "SELECT count(*) FILTER (WHERE source = $1), count(*) FILTER (WHERE key "
                           "= $1 AND metadata = $2::jsonb), "
                           "count(*) FILTER (WHERE data = $2::jsonb), count(*), max(version) FROM "
                           "trunkline.topic_store WHERE stream = $1",
                           2, NULL, values, NULL, NULL, 0);
        for (int k = 0; k < 5; k++) {
            static const char *const counts[] = {"3", "3", "3", "6", "6"};

            assert_string_equal(PQgetvalue(res, 0, k), counts[k]);
        }
        PQclear(res);
    }
}

/* IDM-1: the same append again is the first one's result; anything else with its ids is refused. */
static void ids_make_it_repeatable(void **state)
{
    struct fixture *f = *state;
    tl_new_event events[2] = {{.size = sizeof events[0], .type = "a", .data = "1", .id = ID1},
                              {.size = sizeof events[0], .type = "a", .data = "2", .id = ID2}};
    tl_new_event other = {.size = sizeof other, .type = "a", .data = "3", .id = ID3};
    tl_appended first[2], again[2], one;

    assert_status(f->c, append_one(f->c, "s-1", 0), TL_OK);
    assert_status(f->c, tl_append(f->c, "s-1", 1, events, 2, NULL, first), TL_OK);
    assert_false(first[0].deduplicated);
    assert_status(f->c, append_one(f->c, "s-1", 3), TL_OK);
    assert_status(f->c, tl_append(f->c, "s-1", 1, events, 2, NULL, again), TL_OK);
    for (int i = 0; i < 2; i++) {
        assert_true(again[i].deduplicated);
        assert_int_equal(again[i].version, first[i].version);
        assert_int_equal(again[i].position, first[i].position);
        assert_string_equal(again[i].id, first[i].id);
    }
    assert_status(f->c, tl_append(f->c, "s-1", TL_EXPECT_ANY, events, 1, NULL, &one), TL_OK);
    assert_true(one.deduplicated);
    assert_int_equal(one.version, 2);

    assert_status(f->c, tl_append(f->c, "s-2", TL_EXPECT_ANY, events, 1, NULL, NULL),
                  TL_E_CONFLICT);
    assert_string_equal(tl_error_sqlstate(error_of(f)), "TL003");
    assert_true(tl_error_expected_version(error_of(f)) == TL_EXPECT_ANY);
    events[0].data = "9";
    assert_status(f->c, tl_append(f->c, "s-1", 1, events, 2, NULL, NULL), TL_E_CONFLICT);
    assert_string_equal(tl_error_sqlstate(error_of(f)), "TL003");
    assert_int_equal(tl_error_index(error_of(f)), 0);
    events[0] = other;
    assert_status(f->c, tl_append(f->c, "s-1", 4, events, 2, NULL, NULL), TL_E_CONFLICT);
    assert_contains(tl_error_detail(error_of(f)), "partial");
    assert_int_equal(version_of(f, "s-1"), 4);
    assert_int_equal(version_of(f, "s-2"), 0);
}

/* Keys and expiry go with one event as with several. */
static void keys_and_expiry(void **state)
{
    struct fixture *f = *state;
    tl_new_event events[3] = {
        {.size = sizeof events[0], .type = "a", .key = "k", .data = "null"},
        {.size = sizeof events[0], .type = "a", .expires_at_us = 4102444800123456, .id = ID1},
        {.size = sizeof events[0], .type = "a", .ttl_us = 3600000000}};
    tl_appended rows[3];

    assert_status(f->c, tl_append(f->c, "s-1", 0, events, 3, NULL, rows), TL_OK);
    assert_int_equal(rows[2].version, 3);
    for (int i = 0; i < 3; i++) {
        if (i != 1) /* its id is known */
            assert_status(f->c, tl_append(f->c, "s-2", TL_EXPECT_ANY, &events[i], 1, NULL, rows),
                          TL_OK);
    }
    assert_row(f->db,
               "SELECT string_agg(concat_ws(' ', stream, version, key, CASE WHEN expires_at > "
               "'2099-01-01' THEN extract(epoch FROM expires_at)::text "
               "WHEN expires_at > now() + interval '59 min' AND expires_at < now() + interval '61 "
               "min' THEN 'hour' END, "
               "metadata), ',' ORDER BY stream, version) FROM trunkline.topic_store",
               NULL, "s-1 1 k,s-1 2 s-1 4102444800.123456,s-1 3 s-1 hour,s-2 1 k,s-2 2 s-2 hour");
    assert_row(f->db, "SELECT id FROM trunkline.topic_store WHERE expires_at > '2099-01-01'", NULL,
               ID1);
}

/* PUB-3 for appends: the caller's transaction decides; a conflict in it is typed, at every level. */
static void in_the_callers_transaction(void **state)
{
    static const char *const levels[] = {"READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"};
    struct fixture *f = *state;
    PGconn *conn = test_db_connect(f->conninfo);
    const tl_new_event *event = TL_NEW_EVENT(.type = "a");
    tl_error *error = NULL;
    tl_appended row;
    char sql[100];

    test_db_exec(conn, "BEGIN");
    assert_tl(tl_append_in(conn, NULL, "s-1", 0, event, 1, NULL, &row, NULL), TL_OK);
    assert_int_equal(row.version, 1);
    assert_int_equal(PQtransactionStatus(conn), PQTRANS_INTRANS);
    assert_int_equal(version_of(f, "s-1"), 0);
    test_db_exec(conn, "ROLLBACK");
    assert_int_equal(version_of(f, "s-1"), 0);

    test_db_exec(conn, "BEGIN");
    assert_tl(tl_append_in(conn, "trunkline", "s-1", 0, event, 1, NULL, &row, NULL), TL_OK);
    test_db_exec(conn, "SAVEPOINT s");
    assert_tl(tl_append_in(conn, NULL, "s-1", 0, event, 1, NULL, NULL, &error), TL_E_CONFLICT);
    assert_int_equal(tl_error_expected_version(error), 0);
    assert_int_equal(tl_error_actual_version(error), 1);
    assert_false(tl_error_outcome_unknown(error));
    error = tl_error_free(error);
    assert_tl(tl_append_in(conn, NULL, "s-1", 1, event, 1, NULL, NULL, &error), TL_E_INVALID);
    assert_string_equal(tl_error_sqlstate(error), "25P02");
    error = tl_error_free(error);
    test_db_exec(conn, "ROLLBACK TO s");
    assert_tl(tl_append_in(conn, NULL, "s-1", 1, event, 1, NULL, &row, NULL), TL_OK);
    assert_int_equal(row.version, 2);
    test_db_exec(conn, "COMMIT");
    assert_tl(tl_append_in(conn, NULL, "s-1", 2, event, 1, NULL, &row, NULL),
              TL_OK); /* autocommit */
    assert_int_equal(version_of(f, "s-1"), 3);

    for (int i = 0; i < 3; i++) {
        tl_status status;

        snprintf(sql, sizeof sql,
                 "BEGIN ISOLATION LEVEL %s; SELECT count(*) FROM trunkline.streams", levels[i]);
        test_db_exec(conn, sql);
        assert_status(f->c, append_one(f->c, "s-1", 3 + i), TL_OK); /* behind its snapshot */
        status = tl_append_in(conn, NULL, "s-1", 3 + i, event, 1, NULL, NULL, &error);
        assert_true(status < 0);
        if (strcmp(tl_error_sqlstate(error), "TL001") != 0 &&
            strcmp(tl_error_sqlstate(error), "40001") != 0)
            fail_msg("%s: %s %s", levels[i], tl_error_sqlstate(error), tl_error_message(error));
        error = tl_error_free(error);
        test_db_exec(conn, "ROLLBACK");
        assert_int_equal(version_of(f, "s-1"), 4 + i);
    }
    assert_tl(tl_append_in(NULL, NULL, "s-1", 1, event, 1, NULL, NULL, NULL), TL_E_CONNECTION);
    PQfinish(conn);
}

static void *race_streams(void *arg)
{
    struct racer *r = arg;
    const tl_new_event *event = TL_NEW_EVENT(.type = "a");
    tl_client *c;

    if (tl_client_open(r->conninfo, NULL, &c) != TL_OK)
        r->others++;
    for (int i = 0; i < r->rounds; i++) {
        tl_stream_write writes[5];

        for (int k = 0; k < 5; k++) { /* each thread in an order of its own */
            static const char *const names[] = {"t-1", "t-2", "t-3", "t-4", "t-5"};

            writes[k] =
                (tl_stream_write){.size = sizeof writes[k],
                                  .stream = names[(k * (1 + r->number % 4) + r->number) % 5],
                                  .expected_version = TL_EXPECT_ANY,
                                  .events = event,
                                  .event_count = k == 4 ? 0 : 1};
        }
        if (tl_append_streams(c, writes, 5, NULL, NULL) == TL_OK)
            r->wins++;
        else
            r->others++;
    }
    c = tl_client_close(c);
    return NULL;
}

/* EVS-5: several streams, also ones that are only checked: all or none, and never a deadlock. */
static void several_streams(void **state)
{
    struct fixture *f = *state;
    const tl_new_event events[2] = {{.size = sizeof events[0], .type = "a", .data = "1"},
                                    {.size = sizeof events[0], .type = "a", .data = "2"}};
    tl_new_event bad[2] = {{.size = sizeof bad[0], .type = "a", .data = "1"},
                           {.size = sizeof bad[0], .type = "a", .data = "{"}};
    tl_stream_write writes[3] = {
        {.size = sizeof writes[0],
         .stream = "z-1",
         .expected_version = 0,
         .events = events,
         .event_count = 2},
        {.size = sizeof writes[0], .stream = "m-1", .expected_version = 1},
        {.size = sizeof writes[0],
         .stream = "a-1",
         .expected_version = TL_EXPECT_ANY,
         .events = events,
         .event_count = 1},
    };
    struct racer racers[4];
    tl_appended rows[3];

    assert_status(f->c, tl_append_streams(f->c, writes, 3, NULL, rows), TL_E_CONFLICT);
    assert_int_equal(tl_error_index(error_of(f)), 1);
    assert_int_equal(tl_error_expected_version(error_of(f)), 1);
    assert_int_equal(tl_error_actual_version(error_of(f)), 0);
    assert_int_equal(event_count(f->db), 0);
    assert_status(f->c, append_one(f->c, "m-1", 0), TL_OK);
    assert_status(f->c, tl_append_streams(f->c, writes, 3, NULL, rows), TL_OK);
    assert_int_equal(rows[0].version, 1);
    assert_int_equal(rows[1].version, 2);
    assert_int_equal(rows[2].version, 1);
    assert_int_equal(rows[1].position, rows[0].position + 1);
    assert_int_equal(rows[2].position, rows[0].position + 2);
    assert_int_equal(version_of(f, "m-1"), 1);
    assert_int_equal(version_of(f, "z-1"), 2);
    assert_status(f->c, tl_append_streams(f->c, writes, 3, NULL, NULL), TL_E_CONFLICT);
    assert_int_equal(tl_error_index(error_of(f)), 0);
    writes[0].expected_version = TL_EXPECT_EXISTS;
    writes[1].expected_version = TL_EXPECT_ANY;
    writes[2].expected_version = 1;
    assert_status(f->c, tl_append_streams(f->c, writes, 3, NULL, NULL), TL_OK);

    writes[1].stream = "z-1";
    assert_status(f->c, tl_append_streams(f->c, writes, 3, NULL, NULL), TL_E_INVALID);
    assert_contains(message(f->c), "twice");
    assert_int_equal(tl_error_index(error_of(f)), 1);
    writes[1].stream = "";
    assert_status(f->c, tl_append_streams(f->c, writes, 3, NULL, NULL), TL_E_INVALID);
    assert_int_equal(tl_error_index(error_of(f)), 1);
    writes[1].stream = "m-1";
    writes[2].events = bad;
    writes[2].event_count = 2;
    writes[2].expected_version = TL_EXPECT_ANY;
    assert_status(f->c, tl_append_streams(f->c, writes, 3, NULL, NULL), TL_E_INVALID);
    assert_int_equal(tl_error_index(error_of(f)), 2);
    assert_contains(message(f->c), "not valid JSON");
    assert_status(f->c, tl_append_streams(f->c, &writes[1], 1, NULL, NULL), TL_E_INVALID);
    assert_contains(message(f->c), "no write has an event");
    assert_status(f->c, tl_append_streams(f->c, writes, 0, NULL, NULL), TL_E_INVALID);
    assert_status(f->c, tl_append_streams(f->c, writes, 1001, NULL, NULL), TL_E_INVALID);
    assert_int_equal(event_count(f->db), 7);

    for (int i = 0; i < 4; i++) {
        racers[i] = (struct racer){.conninfo = f->conninfo, .rounds = 20, .number = i};
        assert_int_equal(pthread_create(&racers[i].thread, NULL, race_streams, &racers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(racers[i].thread, NULL), 0);
        assert_int_equal(racers[i].wins, 20);
    }
    assert_row(f->db, "SELECT count(*) FROM trunkline.topic_store WHERE stream LIKE 't-%'", NULL,
               "320");
}

/* TEN-2: a stream belongs to the tenant of its first append. */
static void tenants(void **state)
{
    struct fixture *f = *state;
    const tl_new_event *event = TL_NEW_EVENT(.type = "a");
    const tl_new_event *of_a = TL_NEW_EVENT(.type = "a", .tenant_id = "A");
    int64_t version = -1;

    assert_status(
        f->c, tl_append(f->c, "s-1", 0, of_a, 1, TL_APPEND_OPTIONS(.tenant_id = "A"), NULL), TL_OK);
    assert_status(f->c, tl_append(f->c, "s-1", 1, event, 1, NULL, NULL), TL_OK); /* system */
    assert_row(f->db, "SELECT string_agg(tenant_id, ',') FROM trunkline.topic_store", NULL, "A,A");
    for (int64_t expected = -1; expected < 3; expected++) {
        assert_status(
            f->c,
            tl_append(f->c, "s-1", expected, event, 1, TL_APPEND_OPTIONS(.tenant_id = "B"), NULL),
            TL_E_DENIED);
        assert_int_equal(tl_error_actual_version(error_of(f)), -1);
        assert_null(strstr(message(f->c), "2"));
    }
    assert_status(
        f->c, tl_stream_version(f->c, "s-1", TL_STREAM_OPTIONS(.tenant_id = "B"), &version), TL_OK);
    assert_int_equal(version, 0);
    assert_status(
        f->c, tl_stream_version(f->c, "s-1", TL_STREAM_OPTIONS(.tenant_id = "A"), &version), TL_OK);
    assert_int_equal(version, 2);
}

static int tries;

static tl_verdict on_copy(tl_delivery *d, void *userdata)
{
    tl_worker **w = userdata;
    tl_appended row;

    if (tl_tx_append(tl_delivery_tx(d), "copy-1", TL_EXPECT_ANY, TL_NEW_EVENT(.type = "c"), 1, NULL,
                     &row) != TL_OK)
        return TL_FAIL;
    assert_int_equal(row.version, 1); /* the first try left nothing */
    if (++tries == 1)
        return TL_RETRY;
    tl_worker_stop(*w);
    return TL_DONE;
}

/* Appended with the handler's other effects, or not at all. */
static void in_a_handlers_transaction(void **state)
{
    struct fixture *f = *state;
    tl_router *router;
    tl_worker *worker;

    tries = 0;
    assert_tl(tl_router_new(NULL, &router), TL_OK);
    assert_tl(tl_router_on(router, "start", on_copy, &worker,
                           TL_ROUTE_OPTIONS(.transactional = true,
                                            .subscribe = {.size = sizeof(tl_subscribe_options),
                                                          .retry_delay_us = 1000})),
              TL_OK);
    assert_status(f->c, tl_worker_new(f->c, "m", router, NULL, &worker), TL_OK);
    assert_status(f->c, tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "start"), NULL), TL_OK);
    assert_tl(tl_worker_run(worker), TL_OK);
    assert_int_equal(tries, 2);
    assert_int_equal(version_of(f, "copy-1"), 1);
    worker = tl_worker_free(worker);
    router = tl_router_free(router);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(events_get_versions),
        test_with_client(expectations),
        test_with_client(writers_race),
        test_with_client(bad_calls),
        test_with_client(a_closed_client),
        test_with_client(nothing_is_interpreted),
        test_with_client(ids_make_it_repeatable),
        test_with_client(keys_and_expiry),
        test_with_client(in_the_callers_transaction),
        test_with_client(several_streams),
        test_with_client(tenants),
        test_with_client(in_a_handlers_transaction),
    };

    return cmocka_run_group_tests_name("append", tests, NULL, NULL);
}
