/*
 * no_memory.c: every allocation of a call fails once. Each run ends in TL_E_NOMEM or success, the handle stays
 * usable, and nothing is stored by halves. Workers, live subscriptions and waiting: no_memory_loops.c.
 */
#include "no_memory.h"
#include "client_test.h"

static tl_status open_and_close(struct fixture *f)
{
    tl_client *c;
    tl_status status =
        tl_client_open(f->conninfo, TL_CLIENT_OPTIONS(.application_name = "hungry"), &c);

    assert_true(c != NULL || status == TL_E_NOMEM);
    c = tl_client_close(c);
    return status;
}

static tl_status publish_one(struct fixture *f)
{
    return tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "a", .metadata = "{}"), NULL);
}

static tl_status publish_many(struct fixture *f)
{
    static tl_new_event events[1500];

    for (size_t i = 0; i < 1500; i++)
        events[i] = (tl_new_event){.size = sizeof events[i], .type = "a", .data = "{}", .key = "k"};
    return tl_publish_batch(f->c, NULL, events, 1500, NULL);
}

/* One that is waited for, then two that become one batch. */
static tl_status publish_by_publisher(struct fixture *f)
{
    const tl_new_event *event = TL_NEW_EVENT(.type = "a", .key = "k", .metadata = "{}");
    tl_publisher *p = NULL;
    tl_status status = tl_publisher_new(f->c, NULL, &p);

    if (status == TL_OK)
        status = tl_publisher_publish(p, NULL, event, NULL, NULL);
    for (int i = 0; i < 2 && status == TL_OK; i++)
        status = tl_publisher_submit(p, NULL, event, NULL, NULL, NULL);
    if (status == TL_OK)
        status = tl_publisher_flush(p);
    if (status == TL_OK) {
        tl_publisher_stats stats;

        tl_publisher_get_stats(p, &stats);
        assert_int_equal(stats.published + stats.failed, 3);
        status = stats.failed == 0 ? TL_OK : TL_E_NOMEM;
    }
    p = tl_publisher_free(p);
    return status;
}

static tl_status publish_in(struct fixture *f)
{
    tl_error *error = NULL;
    tl_status status = tl_publish_in(f->db, NULL, NULL, TL_NEW_EVENT(.type = "a"), NULL, &error);

    error = tl_error_free(error);
    return status;
}

static tl_status read_and_print(struct fixture *f)
{
    tl_batch *batch = NULL;
    tl_status status = tl_read(f->c, NULL, &batch);

    if (status == TL_OK) {
        char *json = tl_event_to_json(tl_batch_event(batch, 0), NULL);

        status = json != NULL ? TL_OK : TL_E_NOMEM;
        tl_free(json);
    }
    batch = tl_batch_free(batch);
    return status;
}

static tl_status subscribe_and_claim(struct fixture *f)
{
    tl_batch *batch = NULL;
    tl_status status =
        tl_subscribe(f->c, "s", "a",
                     TL_SUBSCRIBE_OPTIONS(.filter = "{}", .ordering = TL_ORDERING_NONE,
                                          .start = TL_START_BEGINNING));

    if (status == TL_OK)
        status = tl_claim(f->c, "s", TL_CLAIM_OPTIONS(.max_events = 2), &batch);
    if (status == TL_OK)
        status = tl_nack(f->c, tl_batch_token(batch), tl_batch_upto(batch), "no", NULL);
    batch = tl_batch_free(batch);
    return status;
}

/* ---------------------------------------------------------------- the event store; new streams each run -- */

static char stream[20]; /* "s-17" */

static tl_status append_one(struct fixture *f)
{
    return tl_append(f->c, stream, 0, TL_NEW_EVENT(.type = "a", .source = "s", .metadata = "{}"), 1,
                     NULL, NULL);
}

static tl_status append_many(struct fixture *f)
{
    const tl_new_event events[3] = {{.size = sizeof events[0], .type = "a", .metadata = "{}"},
                                    {.size = sizeof events[0], .type = "a"},
                                    {.size = sizeof events[0], .type = "a", .key = "k"}};

    return tl_append(f->c, stream, 0, events, 3, NULL, NULL);
}

static tl_status append_to_two(struct fixture *f)
{
    const tl_new_event events[2] = {{.size = sizeof events[0], .type = "a"},
                                    {.size = sizeof events[0], .type = "a"}};
    const tl_stream_write writes[2] = {
        {.size = sizeof writes[0], .stream = stream, .events = events, .event_count = 2},
        {.size = sizeof writes[0], .stream = "never"}};

    return tl_append_streams(f->c, writes, 2, NULL, NULL);
}

static tl_status append_in(struct fixture *f)
{
    tl_error *error = NULL;
    tl_status status =
        tl_append_in(f->db, NULL, stream, 0, TL_NEW_EVENT(.type = "a"), 1, NULL, NULL, &error);

    error = tl_error_free(error);
    return status;
}

static tl_status read_stream(struct fixture *f)
{
    const char *types[1] = {"a"};
    tl_reader *r = NULL;
    const tl_event *e;
    tl_status status =
        tl_reader_open_all(f->c,
                           TL_READER_OPTIONS(.page_events = 2, .limit = 5, .pattern = "a",
                                             .types = types, .type_count = 1, .topic = "bus"),
                           &r);

    while (status == TL_OK)
        status = tl_reader_next(r, &e);
    r = tl_reader_close(r);
    return status == TL_NOTHING ? TL_OK : status;
}

static tl_status list_streams(struct fixture *f)
{
    tl_streams *s = NULL;
    tl_status status =
        tl_stream_set(f->c, "known-1", TL_EXPECT_ANY, TL_STREAM_SET_OPTIONS(.metadata = "{}"));

    if (status == TL_OK)
        status = tl_stream_list(f->c, NULL, &s);
    s = tl_streams_free(s);
    return status;
}

static void *number_create(void *userdata)
{
    (void)userdata;
    return malloc(1);
}

static tl_status number_apply(void *state, const tl_event *e, void *userdata)
{
    (void)state;
    (void)e;
    (void)userdata;
    return TL_OK;
}

static tl_status number_snapshot(const void *state, char **ret_json, void *userdata)
{
    (void)state;
    (void)userdata;
    *ret_json = strdup("1");
    return *ret_json != NULL ? TL_OK : TL_E_NOMEM;
}

static tl_status number_restore(void *state, const char *json, size_t len, void *userdata)
{
    (void)state;
    (void)json;
    (void)len;
    (void)userdata;
    return TL_OK;
}

static tl_status upcast(const tl_event *e, const char *data, size_t len, char **ret_data,
                        void *userdata)
{
    (void)e;
    (void)data;
    (void)len;
    (void)userdata;
    *ret_data = strdup("2");
    return *ret_data != NULL ? TL_OK : TL_E_NOMEM;
}

/* Everything that asks for memory: two events, a snapshot at once, one that waits, a load by each. */
static tl_status use_repository(struct fixture *f)
{
    const tl_aggregate_type *type =
        TL_AGGREGATE_TYPE(.name = "s", .create = number_create, .apply = number_apply,
                          .snapshot = number_snapshot, .restore = number_restore);
    tl_upcasters *u = NULL;
    tl_repository *r = NULL;
    tl_aggregate *a = NULL;
    tl_status status = tl_upcasters_new(TL_UNKNOWN_PASS, &u);

    if (status == TL_OK)
        status = tl_upcasters_add(u, "a", 1, upcast, NULL);
    if (status == TL_OK)
        status = tl_repository_new(
            f->c, type,
            TL_REPOSITORY_OPTIONS(.snapshot_every = 5, .snapshot_later = true, .upcasters = u), &r);
    if (status == TL_OK)
        status = tl_repository_load_or_create(r, stream + 2, &a);
    for (int i = 0; i < 5 && status == TL_OK; i++)
        status = tl_aggregate_raise(a, TL_NEW_EVENT(.type = "a", .metadata = "{}"));
    if (status == TL_OK)
        status = tl_repository_save(r, a);
    if (status == TL_OK)
        status = tl_repository_snapshot(r, a);
    if (status == TL_OK)
        status = tl_repository_process(r);
    if (status == TL_NOTHING) /* what was due found no memory, which is no failure of the save */
        status = TL_OK;
    if (status == TL_OK)
        status = tl_repository_reload(r, a);
    a = tl_aggregate_free(a);
    r = tl_repository_free(r);
    u = tl_upcasters_free(u);
    return status;
}

static tl_status migrate(struct fixture *f)
{
    char *sql = NULL;
    tl_status status = tl_migrate_up(f->c, NULL);

    if (status == TL_OK)
        status = tl_migrate_verify(f->c);
    if (status == TL_OK)
        status = tl_migrate_sql("other", &sql);
    tl_free(sql);
    return status;
}

/* ------------------------------------------------------------ the rest; each run on names of its own -- */

static tl_status all_of_a_stream(struct fixture *f)
{
    tl_streams *info = NULL;
    tl_snapshot *snapshot = NULL;
    tl_batch *found = NULL;
    tl_appended appended;
    int64_t number;
    bool exists;
    tl_status status =
        tl_append(f->c, stream, TL_EXPECT_ANY, TL_NEW_EVENT(.type = "a"), 1, NULL, &appended);

    if (status == TL_OK)
        status = tl_stream_exists(f->c, stream, NULL, &exists);
    if (status == TL_OK)
        status = tl_stream_version(f->c, stream, NULL, &number);
    if (status == TL_OK)
        status = tl_find(f->c, appended.id, NULL, &found);
    if (status == TL_OK)
        status = tl_link(f->c, "named", appended.id, NULL, &number);
    if (status == TL_OK)
        status = tl_snapshot_save(f->c, stream, 1, "{}", 0, NULL);
    if (status == TL_OK)
        status = tl_snapshot_get(f->c, stream, NULL, &snapshot);
    if (status == TL_OK)
        status = tl_snapshot_delete(f->c, stream, 0, NULL, &number);
    if (status == TL_OK)
        status = tl_stream_set(f->c, stream, 1, TL_STREAM_SET_OPTIONS(.max_count = 5));
    if (status == TL_OK)
        status = tl_stream_info(f->c, stream, NULL, &info);
    if (status == TL_OK)
        status = tl_redact(f->c, appended.id, "a test", NULL);
    if (status == TL_OK)
        status = tl_stream_delete(f->c, stream, 1, NULL);
    found = tl_batch_free(found);
    snapshot = tl_snapshot_free(snapshot);
    info = tl_streams_free(info);
    return status;
}

static tl_status delayed(struct fixture *f)
{
    tl_receipt receipt;
    tl_status status =
        tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "later", .delay_us = 3600000000u), &receipt);

    if (status == TL_OK)
        status = tl_reschedule(f->c, receipt.id, ((int64_t)time(NULL) + 7200) * 1000000);
    if (status == TL_OK)
        status = tl_cancel(f->c, receipt.id);
    return status;
}

static tl_status wait_for_outcome(struct fixture *f)
{
    tl_outcomes *now = NULL, *later = NULL;
    tl_receipt receipt;
    tl_status status =
        tl_publish_wait(f->c, NULL, TL_NEW_EVENT(.type = "b"), 60000000, &receipt, &now);

    if (status == TL_OK)
        status = tl_event_outcomes(f->c, NULL, receipt.position, &later);
    now = tl_outcomes_free(now);
    later = tl_outcomes_free(later);
    return status;
}

static tl_status operate(struct fixture *f)
{
    const char *name = stream;
    int64_t replay = 0, number = 0;
    bool is_first;
    tl_batch *batch = NULL;
    tl_status status =
        tl_subscribe(f->c, name, "a", TL_SUBSCRIBE_OPTIONS(.start = TL_START_BEGINNING));

    if (status == TL_OK)
        status = tl_subscription_set_slots(f->c, name, 2, NULL);
    if (status == TL_OK)
        status = tl_subscription_set_slots(f->c, name, 1, NULL);
    if (status == TL_OK)
        status = tl_claim(f->c, name, TL_CLAIM_OPTIONS(.max_events = 3), &batch);
    if (status == TL_OK)
        status = tl_extend(f->c, tl_batch_token(batch), 3600000000u);
    if (status == TL_OK)
        status = tl_once(f->c, name, tl_event_id(tl_batch_event(batch, 0)), &is_first);
    if (status == TL_OK)
        status =
            tl_ack(f->c, tl_batch_token(batch), tl_event_position(tl_batch_event(batch, 0)), NULL);
    if (status == TL_OK)
        status = tl_release(f->c, tl_batch_token(batch));
    if (status == TL_OK)
        status = tl_replay(f->c, name,
                           TL_REPLAY_OPTIONS(.start = TL_START_BEGINNING, .end = TL_START_POSITION,
                                             .end_value = 3),
                           &replay, &number);
    if (status == TL_OK)
        status = tl_replay_cancel(f->c, replay);
    if (status == TL_OK)
        status = tl_dead_redrive(f->c, TL_DEAD_FILTER(.subscription = name), 0, true, &number);
    if (status == TL_OK)
        status = tl_dead_discard(f->c, TL_DEAD_FILTER(.subscription = name), "why", true, &number);
    if (status == TL_OK)
        status = tl_dead_resolve(f->c, TL_DEAD_FILTER(.pattern = "a"), NULL, true, &number);
    if (status == TL_OK)
        status = tl_subscription_drain(f->c, name, &number);
    if (status == TL_OK)
        status = tl_subscription_resume(f->c, name, false);
    if (status == TL_OK)
        status = tl_subscription_pause(f->c, name, "why");
    if (status == TL_OK)
        status = tl_subscription_reset(f->c, name, TL_START_END, 0, NULL);
    if (status == TL_OK)
        status = tl_unsubscribe_force(f->c, name);
    batch = tl_batch_free(batch);
    return status;
}

static tl_status make_topic(struct fixture *f)
{
    char name[sizeof stream];
    int64_t number;
    tl_status status;

    for (size_t i = 0; i < sizeof name; i++)
        name[i] = (char)(stream[i] == '-' ? '_' : stream[i]);
    status = tl_topic_create(f->c, name, TL_TOPIC_OPTIONS(.rotation = "day"));
    return status == TL_OK ? tl_horizon(f->c, name, &number) : status;
}

static const struct {
    const char *name;
    tl_status (*run)(struct fixture *f);
    int64_t events; /* a run without failure stores these */
    int64_t atom;   /* of several calls, where a later one may fail: so many are stored at a time */
} calls[] = {
    {"open", open_and_close, 0},
    {"publish", publish_one, 1},
    {"batch", publish_many, 1500},
    {"publish_in", publish_in, 1},
    {"read", read_and_print, 0},
    {"subscribe, claim, nack", subscribe_and_claim, 0},
    {"migrate", migrate, 0},
    {"append", append_one, 1},
    {"append, many", append_many, 3},
    {"append to two streams", append_to_two, 2},
    {"append_in", append_in, 1},
    {"reader", read_stream, 0},
    {"streams", list_streams, 0},
    {"repository", use_repository, 5, 5},
    {"a stream", all_of_a_stream, 1, 1},
    {"delayed", delayed, 0},
    {"publish and wait", wait_for_outcome, 1, 1},
    {"operate", operate, 0},
    {"topic", make_topic, 0},
    {"publisher", publish_by_publisher, 3, 1},
};

static void every_allocation_may_fail(void **state)
{
    struct fixture *f = *state;

    assert_status(f->c, publish_many(f), TL_OK); /* something to read and to claim */
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        bool has_failed = true;
        int64_t n;

        for (n = 0; has_failed; n++) {
            int64_t before, stored;
            tl_status status;

            /* statements are made anew, too */
            f->c = tl_client_close(f->c);
            assert_status(f->c, tl_client_open(f->conninfo, NULL, &f->c), TL_OK);
            before = event_count(f->db);
            snprintf(stream, sizeof stream, "s%zu-%d", i, (int)n);
            fail_allocation(n);
            status = calls[i].run(f);
            has_failed = end_of_failing();
            if (status != TL_OK && (status != TL_E_NOMEM || !has_failed))
                fail_msg("%s, allocation %d: %s (%s)", calls[i].name, (int)n,
                         tl_status_name(status), message(f->c));
            stored = event_count(f->db) - before;
            if (status == TL_OK || calls[i].atom == 0)
                assert_int_equal(stored, status == TL_OK ? calls[i].events : 0);
            else
                assert_true(stored <= calls[i].events && stored % calls[i].atom == 0);
            assert_status(f->c, tl_migrate_status(f->c, NULL, NULL, NULL), TL_OK);
        }
        print_message("# %s: %d allocations\n", calls[i].name, (int)n - 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {test_with_client(every_allocation_may_fail)};

    return cmocka_run_group_tests_name("no_memory", tests, NULL, NULL);
}
