/* publish_batch.c: tl_publish_batch: all or none, in order, one chunk and many, and the index of the
 * element to blame (PUB-5, PUB-6, PUB-7). */
#include "client_test.h"

#define MANY 2500 /* three chunks */

static tl_new_event *make_events(size_t n)
{
    tl_new_event *events = calloc(n, sizeof *events);

    assert_non_null(events);
    for (size_t i = 0; i < n; i++)
        events[i] = (tl_new_event){.size = sizeof events[i], .type = "a.b", .data = "{\"n\": 1}"};
    return events;
}

static void order_is_kept(void **state)
{
    static const size_t sizes[] = {1, 2, 1000, 1001, MANY};
    struct fixture *f = *state;
    int64_t last = 0;

    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        size_t n = sizes[s];
        tl_new_event *events = make_events(n);
        tl_receipt *receipts = calloc(n, sizeof *receipts);
        char(*data)[32] = calloc(n, sizeof *data);
        tl_batch *batch = NULL;
        size_t seen = 0;
        int64_t after = last;

        for (size_t i = 0; i < n; i++) {
            snprintf(data[i], sizeof data[i], "%zu", i);
            events[i].data = data[i];
        }
        assert_status(f->c, tl_publish_batch(f->c, NULL, events, n, receipts), TL_OK);
        for (size_t i = 0; i < n; i++) {
            assert_true(receipts[i].position > last);
            assert_int_equal(strlen(receipts[i].id), 36);
            assert_false(receipts[i].deduplicated);
            last = receipts[i].position;
        }
        while (tl_read(f->c, TL_READ_OPTIONS(.after = after, .limit = 1000), &batch) == TL_OK) {
            for (size_t i = 0; i < tl_batch_count(batch); i++, seen++) {
                const tl_event *e = tl_batch_event(batch, i);

                assert_int_equal(tl_event_position(e), receipts[seen].position);
                assert_string_equal(tl_event_id(e), receipts[seen].id);
                assert_string_equal(tl_event_data(e, NULL), data[seen]);
            }
            after = tl_batch_upto(batch);
            batch = tl_batch_free(batch);
        }
        batch = tl_batch_free(batch);
        assert_int_equal(seen, n);
        free(events);
        free(receipts);
        free(data);
    }
    /* one transaction each */
    assert_int_equal(query_number(f->db, "SELECT count(DISTINCT xmin::text) FROM trunkline.events"),
                     sizeof sizes / sizeof sizes[0]);
}

static void every_field_travels(void **state)
{
    struct fixture *f = *state;
    tl_new_event *events = make_events(3);
    PGresult *res;

    events[1].key = "k";
    events[1].source = "s";
    events[1].tenant_id = "t";
    events[1].metadata = "{\"m\": 1}";
    events[1].expires_at_us = 1767225600000000;
    events[2].data = NULL;
    assert_status(f->c, tl_publish_batch(f->c, "store", events, 3, NULL), TL_OK);
    res = test_db_query(f->db,
                        "SELECT string_agg(concat_ws(',', data, key, source, tenant_id, metadata, "
                        "expires_at AT TIME ZONE 'UTC'), ';' ORDER BY \"position\") "
                        "FROM trunkline.topic_store");
    assert_string_equal(PQgetvalue(res, 0, 0),
                        "{\"n\": 1};{\"n\": 1},k,s,t,{\"m\": 1},2026-01-01 00:00:00;null");
    PQclear(res);
    free(events);
}

/* What is wrong, and what must be said. */
static const struct {
    const char *field;
    const char *value;
    tl_status status;
    const char *words;
} faults[] = {
    {"type", "a..b", TL_E_INVALID, "type has an empty segment"},
    {"key", "", TL_E_INVALID, "key is not 1 to 255 bytes"},
    {"data", "{\"secret", TL_E_INVALID, "not valid JSON"},
    {"data", "\"secret\\u0000\"", TL_E_INVALID, "\\u0000"},
    {"data", "\"secret\xff\"", TL_E_INVALID, "not valid UTF-8"},
    {"metadata", "[\"secret\"]", TL_E_INVALID, "metadata is not a JSON object"},
    {"id", "secret", TL_E_INVALID, "id is not a uuid"},
};

static void set_field(tl_new_event *e, const char *field, const char *value)
{
    if (strcmp(field, "type") == 0)
        e->type = value;
    else if (strcmp(field, "key") == 0)
        e->key = value;
    else if (strcmp(field, "data") == 0)
        e->data = value;
    else if (strcmp(field, "metadata") == 0)
        e->metadata = value;
    else
        e->id = value;
}

static void the_bad_element_is_named(void **state)
{
    static const size_t places[] = {0, 1, 999, 1000, 1777, MANY - 1};
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        for (size_t p = 0; p < sizeof places / sizeof places[0]; p++) {
            size_t n = places[p] < 1000 ? 1000 : MANY; /* one chunk, or many */
            tl_new_event *events = make_events(n);
            tl_receipt *receipts = calloc(n, sizeof *receipts);
            char index[40];

            set_field(&events[places[p]], faults[i].field, faults[i].value);
            assert_status(f->c, tl_publish_batch(f->c, NULL, events, n, receipts),
                          faults[i].status);
            assert_int_equal(tl_error_index(tl_client_error(f->c)), places[p]);
            assert_contains(message(f->c), faults[i].words);
            snprintf(index, sizeof index, "event %zu of the batch", places[p]);
            assert_contains(message(f->c), index);
            assert_null(strstr(message(f->c), "secret"));
            assert_null(strstr(tl_error_detail(tl_client_error(f->c)), "secret"));
            assert_int_equal(receipts[0].position, 0);
            free(events);
            free(receipts);
        }
    }
    assert_int_equal(event_count(f->db), 0);
    assert_int_equal(PQtransactionStatus(tl_client_pgconn(f->c)), PQTRANS_IDLE);
    assert_int_equal(PQpipelineStatus(tl_client_pgconn(f->c)), PQ_PIPELINE_OFF);
}

static void the_first_of_several_bad_elements_is_named(void **state)
{
    struct fixture *f = *state;
    tl_new_event *events = make_events(MANY);

    events[1200].metadata = "[]";
    events[1201].metadata = "[]";
    events[2400].metadata = "[]";
    assert_status(f->c, tl_publish_batch(f->c, NULL, events, MANY, NULL), TL_E_INVALID);
    assert_int_equal(tl_error_index(tl_client_error(f->c)), 1200);
    assert_int_equal(event_count(f->db), 0);
    free(events);
}

static void too_large_is_a_limit(void **state)
{
    struct fixture *f = *state;
    tl_new_event *events = make_events(MANY);
    char large[3000];

    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (char)('0' + (i * i + i / 7) % 10);
    large[0] = large[sizeof large - 2] = '"';
    large[sizeof large - 1] = '\0';
    assert_status(f->c, tl_topic_create(f->c, "tiny", TL_TOPIC_OPTIONS(.max_event_bytes = 1024)),
                  TL_OK);
    events[1500].data = large;
    assert_status(f->c, tl_publish_batch(f->c, "tiny", events, MANY, NULL), TL_E_LIMIT);
    assert_int_equal(tl_error_index(tl_client_error(f->c)), 1500);
    assert_contains(message(f->c), "1024");
    events[0].id = "11111111-1111-4111-8111-111111111111"; /* the way of ids */
    assert_status(f->c, tl_publish_batch(f->c, "tiny", events, MANY, NULL), TL_E_LIMIT);
    assert_int_equal(tl_error_index(tl_client_error(f->c)), 1500);
    assert_int_equal(event_count(f->db), 0);
    free(events);
}

static void ids_are_stored_once(void **state)
{
    struct fixture *f = *state;
    tl_new_event *events = make_events(MANY);
    tl_receipt *first = calloc(MANY, sizeof *first);
    tl_receipt *again = calloc(MANY, sizeof *again);
    char(*ids)[37] = calloc(MANY, sizeof *ids);

    for (size_t i = 0; i < MANY; i++) {
        snprintf(ids[i], sizeof ids[i], "11111111-1111-4111-8111-%012zu", i);
        events[i].id = ids[i];
    }
    assert_status(f->c, tl_publish_batch(f->c, NULL, events, MANY, first), TL_OK);
    assert_status(f->c, tl_publish_batch(f->c, NULL, events, MANY, again), TL_OK);
    for (size_t i = 0; i < MANY; i++) {
        assert_string_equal(first[i].id, ids[i]);
        assert_false(first[i].deduplicated);
        assert_true(i == 0 || first[i].position > first[i - 1].position);
        assert_true(again[i].deduplicated);
        assert_int_equal(again[i].position, first[i].position);
    }
    assert_int_equal(event_count(f->db), MANY);
    /* the same id with other content, beside events without an id */
    events[3].id = NULL;
    events[1234].data = "{}";
    assert_status(f->c, tl_publish_batch(f->c, NULL, events, MANY, again), TL_E_CONFLICT);
    assert_int_equal(tl_error_index(tl_client_error(f->c)), 1234);
    assert_int_equal(event_count(f->db), MANY);
    free(events);
    free(first);
    free(again);
    free(ids);
}

static void other_failures_have_no_index(void **state)
{
    struct fixture *f = *state;
    tl_new_event *events = make_events(MANY);

    assert_status(f->c, tl_publish_batch(f->c, NULL, events, 0, NULL), TL_E_INVALID);
    assert_contains(message(f->c), "empty");
    assert_int_equal(tl_error_index(tl_client_error(f->c)), -1);
    assert_status(f->c, tl_publish_batch(f->c, "nope", events, 10, NULL), TL_E_NOTFOUND);
    assert_status(f->c, tl_publish_batch(f->c, "nope", events, MANY, NULL), TL_E_NOTFOUND);
    assert_int_equal(tl_error_index(tl_client_error(f->c)), -1);
    assert_contains(message(f->c), "nope");
    free(events);
}

static void chunks_are_cut_by_bytes_too(void **state)
{
    struct fixture *f = *state;
    enum { N = 20, BYTES = 900000 };
    tl_new_event *events = make_events(N);
    char *data = malloc(BYTES + 1);

    memset(data, 'x', BYTES);
    data[0] = data[BYTES - 1] = '"';
    data[BYTES] = '\0';
    for (size_t i = 0; i < N; i++)
        events[i].data = data;
    assert_status(f->c, tl_publish_batch(f->c, NULL, events, N, NULL), TL_OK);
    assert_int_equal(event_count(f->db), N);
    assert_int_equal(query_number(f->db, "SELECT count(DISTINCT xmin::text) FROM trunkline.events"),
                     1);
    free(events);
    free(data);
}

static void statements_are_prepared_again(void **state)
{
    struct fixture *f = *state;
    tl_new_event *events = make_events(MANY);

    assert_status(f->c, tl_publish_batch(f->c, NULL, events, MANY, NULL), TL_OK);
    test_db_exec(tl_client_pgconn(f->c), "DISCARD ALL");
    assert_status(f->c, tl_publish_batch(f->c, NULL, events, MANY, NULL), TL_OK);
    assert_string_equal(message(f->c), "");
    test_db_exec(tl_client_pgconn(f->c), "DISCARD ALL");
    assert_status(f->c, tl_publish_batch(f->c, NULL, events, 10, NULL), TL_OK);
    assert_int_equal(event_count(f->db), 2 * MANY + 10);
    free(events);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(order_is_kept),
        test_with_client(every_field_travels),
        test_with_client(the_bad_element_is_named),
        test_with_client(the_first_of_several_bad_elements_is_named),
        test_with_client(too_large_is_a_limit),
        test_with_client(ids_are_stored_once),
        test_with_client(other_failures_have_no_index),
        test_with_client(chunks_are_cut_by_bytes_too),
        test_with_client(statements_are_prepared_again),
    };

    return cmocka_run_group_tests_name("publish_batch", tests, NULL, NULL);
}
