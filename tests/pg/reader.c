/* reader.c: tl_reader over streams, categories and topics against a model; constant memory; tl_find; old
 * events in their latest form. */
#include "client_test.h"

#include <malloc.h>

#define ID1 "11111111-1111-4111-8111-111111111111"

#define MAX_EVENTS 300

/* What was appended, in the order of positions. */
static struct {
    const char *stream;
    int64_t version;
    const char *type;
    const char *tenant;
    bool is_correlated;
} model[MAX_EVENTS];
static int model_count;

static void append(struct fixture *f, const char *stream, const char *type, const char *tenant,
                   bool is_correlated)
{
    tl_appended row;

    assert_status(
        f->c,
        tl_append(f->c, stream, TL_EXPECT_ANY,
                  TL_NEW_EVENT(.type = type, .data = "{\"x\": 1}",
                               .metadata = is_correlated ? "{\"correlation_id\": \"c\"}" : NULL),
                  1, TL_APPEND_OPTIONS(.tenant_id = tenant), &row),
        TL_OK);
    assert_int_equal(row.position, model_count + 1);
    model[model_count].stream = stream;
    model[model_count].version = row.version;
    model[model_count].type = type;
    model[model_count].tenant = tenant;
    model[model_count].is_correlated = is_correlated;
    model_count++;
}

static void fill(struct fixture *f, int n)
{
    static const char *const streams[] = {"order-1", "order-2", "cart-1", "order2-1", "order"};
    static const char *const types[] = {"a.made", "a.gone", "b.made"};

    model_count = 0;
    for (int i = 0; i < n; i++) {
        int s = (i * 7 + i / 5) % 5;

        append(f, streams[s], types[i % 3], s == 2 ? "T" : NULL, i % 4 == 0);
    }
}

struct query {
    const char *stream, *category; /* both NULL: all */
    const char *tenant, *pattern, *type, *correlation;
    int64_t after, upto;
    bool backward;
    uint64_t limit;
};

static bool is_wanted(const struct query *q, int i)
{
    int64_t key = q->stream != NULL ? model[i].version : i + 1;

    if (q->stream != NULL && strcmp(q->stream, model[i].stream) != 0)
        return false;
    if (q->category != NULL) {
        size_t len = strlen(q->category);

        if (strncmp(q->category, model[i].stream, len) != 0 ||
            (model[i].stream[len] != '-' && model[i].stream[len] != '\0'))
            return false;
    }
    if (q->tenant != NULL && (model[i].tenant == NULL || strcmp(q->tenant, model[i].tenant) != 0))
        return false;
    if (q->pattern != NULL && !tl_pattern_matches(q->pattern, model[i].type))
        return false;
    if (q->type != NULL && strcmp(q->type, model[i].type) != 0)
        return false;
    if (q->correlation != NULL && (!model[i].is_correlated || strcmp(q->correlation, "c") != 0))
        return false;
    if (q->backward)
        return (q->after == 0 || key < q->after) && key >= q->upto;
    return key > q->after && (q->upto == 0 || key <= q->upto);
}

static void check(struct fixture *f, const struct query *q, uint32_t page)
{
    const char *types[2] = {"none", q->type};
    const tl_reader_options *opts =
        TL_READER_OPTIONS(.tenant_id = q->tenant, .after = q->after, .upto = q->upto,
                          .backward = q->backward, .limit = q->limit, .page_events = page,
                          .pattern = q->pattern, .types = q->type != NULL ? types : NULL,
                          .type_count = q->type != NULL ? 2 : 0, .correlation_id = q->correlation);
    tl_reader *r = NULL;
    const tl_event *e = NULL;
    uint64_t given = 0;
    int64_t last = q->after;

    if (q->stream != NULL)
        assert_status(f->c, tl_reader_open_stream(f->c, q->stream, opts, &r), TL_OK);
    else if (q->category != NULL)
        assert_status(f->c, tl_reader_open_category(f->c, q->category, opts, &r), TL_OK);
    else
        assert_status(f->c, tl_reader_open_all(f->c, opts, &r), TL_OK);
    for (int k = 0; k < model_count; k++) {
        int i = q->backward ? model_count - 1 - k : k;

        if (!is_wanted(q, i) || (q->limit != 0 && given == q->limit))
            continue;
        assert_int_equal(tl_reader_after(r), last);
        assert_status(f->c, tl_reader_next(r, &e), TL_OK);
        if (tl_event_position(e) != i + 1)
            fail_msg("page %u: position %d instead of %d", page, (int)tl_event_position(e), i + 1);
        assert_string_equal(tl_event_stream(e), model[i].stream);
        assert_int_equal(tl_event_version(e), model[i].version);
        assert_string_equal(tl_event_type(e), model[i].type);
        assert_string_equal(tl_event_data(e, NULL), "{\"x\": 1}");
        assert_int_equal(strlen(tl_event_id(e)), 36);
        assert_int_equal(tl_event_metadata(e, NULL) != NULL, model[i].is_correlated);
        last = q->stream != NULL ? tl_event_version(e) : tl_event_position(e);
        given++;
    }
    assert_status(f->c, tl_reader_next(r, &e), TL_NOTHING);
    assert_status(f->c, tl_reader_next(r, &e), TL_NOTHING);
    assert_int_equal(tl_reader_after(r), last);
    r = tl_reader_close(r);
    assert_null(r);
}

/* EVS-6, EVS-8, EVS-9, EVS-11: every way to read, in pages of every size, is what the model says. */
static void reads_are_what_the_model_says(void **state)
{
    static const uint32_t pages[] = {1, 7, 23, 0, 10000};
    static const struct query queries[] = {
        {.stream = "order-1"},
        {.stream = "order-1", .after = 3},
        {.stream = "order-1", .after = 3, .upto = 9},
        {.stream = "order-1", .upto = 1000, .limit = 5},
        {.stream = "order-1", .after = 1000},
        {.stream = "order-1", .backward = true},
        {.stream = "order-1", .backward = true, .after = 9, .upto = 3},
        {.stream = "order-1", .backward = true, .limit = 2},
        {.stream = "cart-1", .tenant = "T"},
        {.stream = "cart-1", .tenant = "U"},
        {.stream = "order-1", .tenant = "T"},
        {.stream = "none-1"},
        {.category = "order"},
        {.category = "order", .after = 20, .upto = 61},
        {.category = "order", .limit = 24},
        {.category = "cart", .tenant = "T"},
        {.category = "cart", .tenant = "U"},
        {.category = "none"},
        {.stream = NULL},
        {.after = 17, .upto = 50},
        {.backward = true},
        {.backward = true, .after = 50, .upto = 17},
        {.backward = true, .after = 50, .limit = 7},
        {.pattern = "a.*"},
        {.pattern = "*.made", .backward = true},
        {.type = "b.made"},
        {.type = "a.gone", .pattern = "b.*"},
        {.correlation = "c"},
        {.correlation = "c", .backward = true, .after = 60},
        {.correlation = "d"}, /* nobody's */
        {.tenant = "T"},
        {.tenant = "T", .pattern = "a.made", .limit = 3},
    };
    struct fixture *f = *state;

    fill(f, 120);
    for (size_t i = 0; i < sizeof queries / sizeof queries[0]; i++) {
        for (size_t k = 0; k < sizeof pages / sizeof pages[0]; k++) {
            check(f, &queries[i], pages[k]);
        }
    }
}

/* At the end it says so, and asked again it looks again; the client is free between two events. */
static void the_end_is_not_for_ever(void **state)
{
    struct fixture *f = *state;
    PGconn *other = test_db_connect(f->conninfo);
    tl_reader *r = NULL;
    const tl_event *e;

    assert_status(f->c, tl_reader_open_category(f->c, "order-*", NULL, &r), TL_OK);
    assert_status(f->c, tl_reader_next(r, &e), TL_NOTHING);
    model_count = 0;
    append(f, "order-1", "a.made", NULL, false);
    append(f, "order-2", "a.made", NULL, false);
    assert_status(f->c, tl_reader_next(r, &e), TL_OK);
    assert_int_equal(tl_event_position(e), 1);
    append(f, "order-1", "a.gone", NULL, false); /* the event stays what it was */
    assert_string_equal(tl_event_type(e), "a.made");
    assert_status(f->c, tl_reader_next(r, &e), TL_OK);
    assert_status(f->c, tl_reader_next(r, &e), TL_NOTHING); /* of what there was when it looked */

    /* EVS-8: a writer that is not done holds back what comes behind it, and nothing is skipped */
    test_db_exec(other, "BEGIN");
    assert_int_equal(
        tl_append_in(other, NULL, "order-9", 0, TL_NEW_EVENT(.type = "slow"), 1, NULL, NULL, NULL),
        TL_OK);
    model_count++;
    append(f, "order-2", "a.gone", NULL, false);
    while (tl_reader_next(r, &e) == TL_OK)
        assert_true(tl_event_position(e) < 4);
    assert_int_equal(tl_reader_after(r), 3);
    test_db_exec(other, "COMMIT");
    assert_status(f->c, tl_reader_next(r, &e), TL_OK);
    assert_string_equal(tl_event_type(e), "slow");
    assert_status(f->c, tl_reader_next(r, &e), TL_OK);
    assert_int_equal(tl_event_position(e), 5);
    assert_status(f->c, tl_reader_next(r, &e), TL_NOTHING);
    r = tl_reader_close(r);
    PQfinish(other);
}

static void bad_readers_are_refused(void **state)
{
    struct fixture *f = *state;
    const char *types[1] = {"a"};
    const tl_event *e;
    tl_reader *r = NULL;

    assert_status(f->c, tl_reader_open_stream(f->c, NULL, NULL, &r), TL_E_INVALID);
    assert_status(f->c, tl_reader_open_stream(f->c, "", NULL, &r), TL_E_INVALID);
    assert_status(f->c, tl_reader_open_stream(f->c, "s", TL_READER_OPTIONS(.after = -1), &r),
                  TL_E_INVALID);
    assert_contains(message(f->c), "after");
    assert_status(f->c, tl_reader_open_stream(f->c, "s", TL_READER_OPTIONS(.upto = -1), &r),
                  TL_E_INVALID);
    assert_contains(message(f->c), "upto");
    assert_status(f->c,
                  tl_reader_open_stream(f->c, "s", TL_READER_OPTIONS(.page_events = 10001), &r),
                  TL_E_INVALID);
    assert_contains(message(f->c), "10000");
    assert_status(f->c, tl_reader_open_stream(f->c, "s", TL_READER_OPTIONS(.pattern = "a"), &r),
                  TL_E_UNSUPPORTED);
    assert_status(f->c, tl_reader_open_stream(f->c, "s", TL_READER_OPTIONS(.since_us = 1), &r),
                  TL_E_UNSUPPORTED);
    assert_status(f->c, tl_reader_open_category(f->c, "s", TL_READER_OPTIONS(.backward = true), &r),
                  TL_E_UNSUPPORTED);
    assert_status(
        f->c,
        tl_reader_open_category(f->c, "s", TL_READER_OPTIONS(.types = types, .type_count = 1), &r),
        TL_E_UNSUPPORTED);
    assert_status(f->c, tl_reader_open_all(f->c, TL_READER_OPTIONS(.pattern = "a*"), &r),
                  TL_E_INVALID);
    assert_status(f->c, tl_reader_open_all(f->c, TL_READER_OPTIONS(.type_count = 1), &r),
                  TL_E_INVALID);
    assert_status(f->c, tl_reader_open_all(f->c, TL_READER_OPTIONS(.topic = "A"), &r),
                  TL_E_INVALID);
    assert_null(r);
    assert_null(tl_reader_close(NULL));
    assert_status(f->c, tl_reader_open_all(f->c, TL_READER_OPTIONS(.topic = "nope"), &r), TL_OK);
    assert_status(f->c, tl_reader_next(r, &e), TL_E_NOTFOUND);
    r = tl_reader_close(r);
    assert_status(f->c, tl_reader_open_stream(f->c, "s", TL_READER_OPTIONS(.topic = "bus"), &r),
                  TL_OK);
    assert_status(f->c, tl_reader_next(r, &e), TL_E_UNSUPPORTED);
    r = tl_reader_close(r);
}

/* Events before and after a moment; bounds are inclusive (EVS-9). */
static void since_a_time(void **state)
{
    struct fixture *f = *state;
    const tl_event *e;
    tl_reader *r;
    int64_t at_us;

    fill(f, 20);
    assert_status(f->c, tl_reader_open_all(f->c, TL_READER_OPTIONS(.after = 11), &r), TL_OK);
    assert_status(f->c, tl_reader_next(r, &e), TL_OK);
    at_us = tl_event_created_at_us(e);
    r = tl_reader_close(r);
    for (int kind = 0; kind < 2; kind++) {
        const tl_reader_options *opts = TL_READER_OPTIONS(.since_us = at_us);

        if (kind == 0)
            assert_status(f->c, tl_reader_open_all(f->c, opts, &r), TL_OK);
        else
            assert_status(f->c, tl_reader_open_category(f->c, "order", opts, &r), TL_OK);
        for (int i = 11; i < model_count; i++) {
            if (kind == 1 && strncmp(model[i].stream, "order-", 6) != 0 &&
                strcmp(model[i].stream, "order") != 0)
                continue;
            assert_status(f->c, tl_reader_next(r, &e), TL_OK);
            assert_int_equal(tl_event_position(e), i + 1);
        }
        assert_status(f->c, tl_reader_next(r, &e), TL_NOTHING);
        r = tl_reader_close(r);
    }
}

static size_t memory_in_use(void)
{
    struct mallinfo2 m = mallinfo2();

    return m.uordblks + m.hblkhd;
}

/* Read to the end; the largest use of memory meanwhile. */
static size_t peak_of(struct fixture *f, uint32_t page, int expected)
{
    size_t before = memory_in_use();
    size_t peak = 0;
    const tl_event *e;
    tl_reader *r;
    int64_t last = 0;
    int count = 0;
    tl_status status;

    assert_status(f->c, tl_reader_open_all(f->c, TL_READER_OPTIONS(.page_events = page), &r),
                  TL_OK);
    while ((status = tl_reader_next(r, &e)) == TL_OK) {
        size_t now = memory_in_use();

        if (now > before && now - before > peak)
            peak = now - before;
        assert_true(tl_event_position(e) > last);
        last = tl_event_position(e);
        count++;
    }
    assert_status(f->c, status, TL_NOTHING);
    assert_int_equal(count, expected);
    r = tl_reader_close(r);
    return peak;
}

/* EVS-11: memory does not grow with the log: 60,000 events of 1 KB, then 40 of 1 MB in pages of 10,000 that
 * end at 4 MiB each, metadata counted. */
static void memory_is_constant(void **state)
{
    struct fixture *f = *state;
    size_t peak;

    test_db_exec(f->db,
                 "SELECT count(*) FROM generate_series(1, 12) g, trunkline.append_rows('s-' || g, "
                 "array_fill('a'::text, ARRAY[5000]), array_fill(to_jsonb(repeat('x', 1000)), "
                 "ARRAY[5000])) a");
    peak = peak_of(f, 0, 60000);
    print_message("# 60,000 events of 1 KB: %zu KB\n", peak / 1024);
    assert_true(peak < 4u << 20);
    test_db_exec(f->db,
                 "SELECT count(*) FROM generate_series(1, 40) g, trunkline.append_rows('b-' || g, "
                 "ARRAY['a'], ARRAY[to_jsonb(repeat('x', 1000000))], "
                 "ARRAY[jsonb_build_object('m', repeat('y', 60000))]) a");
    peak = peak_of(f, 10000, 60040);
    print_message("# and 40 of 1 MB in pages of 10,000: %zu KB\n", peak / 1024);
    assert_true(peak < 16u << 20);
}

/* EVS-12: by id, wherever it is. */
static void found_by_id(void **state)
{
    struct fixture *f = *state;
    char topic[TL_MAX_TOPIC_BYTES + 1];
    tl_batch *batch = NULL;
    tl_appended made, given;
    tl_receipt published;

    assert_status(
        f->c, tl_append(f->c, "s-1", 0, TL_NEW_EVENT(.type = "a", .data = "[1]"), 1, NULL, &made),
        TL_OK);
    assert_status(f->c,
                  tl_append(f->c, "s-1", 1, TL_NEW_EVENT(.type = "b", .id = ID1), 1, NULL, &given),
                  TL_OK);
    assert_status(f->c, tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "c"), &published), TL_OK);

    assert_status(f->c, tl_find(f->c, made.id, topic, &batch), TL_OK);
    assert_string_equal(topic, "store");
    assert_int_equal(tl_batch_count(batch), 1);
    assert_int_equal(tl_event_version(tl_batch_event(batch, 0)), 1);
    assert_string_equal(tl_event_data(tl_batch_event(batch, 0), NULL), "[1]");
    batch = tl_batch_free(batch);
    assert_status(f->c, tl_find(f->c, ID1, NULL, &batch), TL_OK);
    assert_string_equal(tl_event_type(tl_batch_event(batch, 0)), "b");
    batch = tl_batch_free(batch);
    assert_status(f->c, tl_find(f->c, published.id, topic, &batch), TL_OK);
    assert_string_equal(topic, "bus");
    batch = tl_batch_free(batch);
    assert_status(f->c, tl_find(f->c, "22222222-2222-4222-8222-222222222222", topic, &batch),
                  TL_E_NOTFOUND);
    assert_status(f->c, tl_find(f->c, "event-123", topic, &batch), TL_E_INVALID);
    assert_status(f->c, tl_find(f->c, NULL, topic, &batch), TL_E_INVALID);
    assert_null(batch);
}

/* EVS-10: links carry no copy, are put once, and read by position in their stream. */
static void named_streams(void **state)
{
    struct fixture *f = *state;
    tl_appended rows[30];
    const tl_event *e;
    int64_t position = 0;
    tl_reader *r;

    for (int i = 0; i < 30; i++)
        assert_status(f->c,
                      tl_append(f->c, i % 2 == 0 ? "a-1" : "b-1", TL_EXPECT_ANY,
                                TL_NEW_EVENT(.type = "a"), 1,
                                TL_APPEND_OPTIONS(.tenant_id = i % 2 == 0 ? "A" : "B"), &rows[i]),
                      TL_OK);
    for (int i = 29; i >= 0; i -= 3) { /* against the order of the log */
        assert_status(f->c, tl_link(f->c, "mine", rows[i].id, NULL, &position), TL_OK);
        assert_int_equal(position, 1 + (29 - i) / 3);
    }
    assert_status(f->c, tl_link(f->c, "mine", rows[26].id, NULL, &position), TL_OK);
    assert_int_equal(position, 2);
    assert_status(f->c, tl_link(f->c, "mine", rows[28].id, "B", &position), TL_E_NOTFOUND);
    assert_status(f->c, tl_link(f->c, "mine", ID1, NULL, &position), TL_E_NOTFOUND);
    assert_status(f->c, tl_link(f->c, "", rows[0].id, NULL, &position), TL_E_INVALID);
    assert_status(f->c, tl_link(f->c, "mine", "x", NULL, &position), TL_E_INVALID);

    assert_status(f->c,
                  tl_reader_open_links(
                      f->c, "mine", TL_READER_OPTIONS(.page_events = 3, .after = 1, .upto = 9), &r),
                  TL_OK);
    for (int n = 2; n <= 9; n++) {
        assert_status(f->c, tl_reader_next(r, &e), TL_OK);
        assert_string_equal(tl_event_id(e), rows[29 - (n - 1) * 3].id);
        assert_int_equal(tl_reader_after(r), n);
    }
    assert_status(f->c, tl_reader_next(r, &e), TL_NOTHING);
    r = tl_reader_close(r);
    /* events that are not there any more are passed over, and count for no limit */
    test_db_exec(f->db, "SET session_replication_role = replica; DELETE FROM trunkline.topic_store "
                        "WHERE \"position\" BETWEEN 20 AND 28; "
                        "SET session_replication_role = origin");
    assert_status(
        f->c,
        tl_reader_open_links(f->c, "mine", TL_READER_OPTIONS(.page_events = 2, .limit = 2), &r),
        TL_OK);
    assert_status(f->c, tl_reader_next(r, &e), TL_OK);
    assert_string_equal(tl_event_id(e), rows[29].id);
    assert_status(f->c, tl_reader_next(r, &e), TL_OK);
    assert_string_equal(tl_event_id(e), rows[17].id);
    assert_int_equal(tl_reader_after(r), 5);
    assert_status(f->c, tl_reader_next(r, &e), TL_NOTHING);
    r = tl_reader_close(r);
    assert_status(f->c, tl_reader_open_links(f->c, "mine", TL_READER_OPTIONS(.tenant_id = "B"), &r),
                  TL_OK);
    assert_status(f->c, tl_reader_next(r, &e), TL_OK);
    assert_string_equal(tl_event_tenant_id(e), "B");
    r = tl_reader_close(r);
    assert_status(f->c, tl_reader_open_links(f->c, "nobody's", NULL, &r), TL_OK);
    assert_status(f->c, tl_reader_next(r, &e), TL_NOTHING);
    r = tl_reader_close(r);
    assert_status(f->c, tl_reader_open_links(f->c, "mine", TL_READER_OPTIONS(.backward = true), &r),
                  TL_E_UNSUPPORTED);
    assert_status(f->c, tl_reader_open_links(f->c, "mine", TL_READER_OPTIONS(.topic = "store"), &r),
                  TL_E_UNSUPPORTED);
}

static tl_status rename_x(const tl_event *e, const char *data, size_t len, char **ret_data,
                          void *userdata)
{
    (void)e;
    (void)len;
    (void)userdata;
    if (strcmp(data, "{\"y\": 1}") == 0) /* by the SQL function before */
        *ret_data = strdup("{\"z\": 1}");
    else if (strcmp(data, "{\"x\": 1}") == 0)
        return TL_E_REJECTED;
    return TL_OK;
}

/* Upcasters of SQL, those of C behind them, and unknown events left out or refused. */
static void old_events_in_their_latest_form(void **state)
{
    struct fixture *f = *state;
    tl_upcasters *u;
    const tl_event *e;
    tl_reader *r;

    model_count = 0;
    append(f, "s-1", "a.made", NULL, false);
    append(f, "s-1", "odd", NULL, false);
    append(f, "s-1", "a.made", NULL, false);
    test_db_exec(f->db, "CREATE FUNCTION public.up(data jsonb, metadata jsonb) RETURNS jsonb "
                        "IMMUTABLE LANGUAGE sql AS "
                        "'SELECT data - ''x'' || jsonb_build_object(''y'', data -> ''x'')';"
                        "SELECT trunkline.upcaster_add('a.made', 1, 'public.up')");
    for (int kind = 0; kind < 3; kind++) {
        const tl_reader_options *opts = TL_READER_OPTIONS(.upcast = true);

        if (kind == 0)
            assert_status(f->c, tl_reader_open_stream(f->c, "s-1", opts, &r), TL_OK);
        else if (kind == 1)
            assert_status(f->c, tl_reader_open_category(f->c, "s", opts, &r), TL_OK);
        else
            assert_status(f->c, tl_reader_open_all(f->c, opts, &r), TL_OK);
        assert_status(f->c, tl_reader_next(r, &e), TL_OK);
        assert_string_equal(tl_event_data(e, NULL), "{\"y\": 1}");
        assert_int_equal(tl_event_schema_version(e), 2);
        assert_status(f->c, tl_reader_next(r, &e), TL_OK);
        assert_string_equal(tl_event_data(e, NULL), "{\"x\": 1}");
        assert_int_equal(tl_event_schema_version(e), 1);
        r = tl_reader_close(r);
    }
    assert_int_equal(tl_upcasters_new(TL_UNKNOWN_SKIP, &u), TL_OK);
    assert_int_equal(tl_upcasters_add(u, "a.made", 2, rename_x, NULL), TL_OK);
    assert_int_equal(tl_upcasters_add(u, "a.made", 1, rename_x, NULL), TL_OK);
    assert_status(
        f->c,
        tl_reader_open_stream(f->c, "s-1", TL_READER_OPTIONS(.upcast = true, .upcasters = u), &r),
        TL_OK);
    for (int version = 1; version <= 3; version += 2) {
        assert_status(f->c, tl_reader_next(r, &e), TL_OK);
        assert_int_equal(tl_event_version(e), version);
        assert_string_equal(tl_event_data(e, NULL), "{\"z\": 1}");
        assert_int_equal(tl_event_schema_version(e), 3);
    }
    assert_status(f->c, tl_reader_next(r, &e), TL_NOTHING);
    assert_int_equal(tl_reader_after(r), 3);
    r = tl_reader_close(r);
    /* without the one of SQL the first version fails here, and says so */
    assert_status(f->c, tl_reader_open_stream(f->c, "s-1", TL_READER_OPTIONS(.upcasters = u), &r),
                  TL_OK);
    assert_status(f->c, tl_reader_next(r, &e), TL_E_REJECTED);
    assert_contains(message(f->c), "a.made");
    r = tl_reader_close(r);
    u = tl_upcasters_free(u);
    assert_int_equal(tl_upcasters_new(TL_UNKNOWN_FAIL, &u), TL_OK);
    assert_int_equal(tl_upcasters_know(u, "a.made", 1), TL_OK);
    assert_status(f->c, tl_reader_open_stream(f->c, "s-1", TL_READER_OPTIONS(.upcasters = u), &r),
                  TL_OK);
    assert_status(f->c, tl_reader_next(r, &e), TL_OK);
    assert_status(f->c, tl_reader_next(r, &e), TL_E_UNSUPPORTED);
    assert_contains(message(f->c), "odd");
    r = tl_reader_close(r);
    u = tl_upcasters_free(u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(reads_are_what_the_model_says),
        test_with_client(the_end_is_not_for_ever),
        test_with_client(bad_readers_are_refused),
        test_with_client(since_a_time),
        test_with_client(memory_is_constant),
        test_with_client(found_by_id),
        test_with_client(named_streams),
        test_with_client(old_events_in_their_latest_form),
    };

    return cmocka_run_group_tests_name("reader", tests, NULL, NULL);
}
