/* store_outcome.c: what happens to calls of the event store when the connection, the server or the
 * caller's patience ends (EVS-6, EVS-16): an outage is an error and never "nothing there", an append whose
 * commit was lost can be repeated, a reader goes on behind its last event. */
#include "call.h"

#include <signal.h>

#define ID1 "11111111-1111-4111-8111-111111111111"
#define ID2 "22222222-2222-4222-8222-222222222222"

static void terminate(PGconn *db)
{
    test_db_exec(db, "SELECT pg_terminate_backend(pid) " BACKENDS);
    wait_for(db, "SELECT CASE count(*) WHEN 0 THEN 1 ELSE 0 END " BACKENDS);
}

/* ---------------------------------------------------------------------------------- append -- */

static tl_appended rows[2]; /* of the last append that succeeded */

static tl_status append_one(tl_client *c)
{
    return tl_append(c, "s-1", 0, TL_NEW_EVENT(.type = "a", .id = ID1), 1, NULL, rows);
}

static const tl_new_event pair[2] = {{.size = sizeof pair[0], .type = "a", .id = ID1},
                                     {.size = sizeof pair[0], .type = "a", .id = ID2}};

static tl_status append_many(tl_client *c)
{
    return tl_append(c, "s-1", 0, pair, 2, NULL, rows);
}

static tl_status append_to_two(tl_client *c)
{
    const tl_stream_write writes[2] = {{.size = sizeof writes[0],
                                        .stream = "s-2",
                                        .expected_version = 0,
                                        .events = pair,
                                        .event_count = 1},
                                       {.size = sizeof writes[0],
                                        .stream = "s-1",
                                        .expected_version = 0,
                                        .events = &pair[1],
                                        .event_count = 1}};

    return tl_append_streams(c, writes, 2, NULL, rows);
}

static tl_status (*const appends[])(tl_client *) = {append_one, append_many, append_to_two};
#define APPENDS (sizeof appends / sizeof appends[0])

/* Every commit of an event now waits for advisory lock 4711. */
static void make_commits_wait(PGconn *db)
{
    test_db_exec(db, "CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                     "PERFORM pg_advisory_lock(4711); PERFORM pg_advisory_unlock(4711); "
                     "RETURN NULL; END $$;"
                     "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON trunkline.topic_store "
                     "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.wait()");
}

static void start_over(PGconn *db)
{
    test_db_exec(db, "SET client_min_messages = warning; DROP TRIGGER IF EXISTS wait ON "
                     "trunkline.topic_store; DROP FUNCTION IF "
                     "EXISTS public.wait; "
                     "SET session_replication_role = replica; DELETE FROM trunkline.dedup; "
                     "DELETE FROM trunkline.streams; TRUNCATE trunkline.events; "
                     "SET session_replication_role = origin");
}

/* The wire is cut while the server commits: stored after all, and the repetition finds it. */
static void a_lost_commit_is_repeated(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < APPENDS; i++) {
        PGconn *holder = test_db_connect(f->conninfo);
        int64_t count;
        struct call call;

        make_commits_wait(f->db);
        test_db_exec(holder, "SELECT pg_advisory_lock(4711)");
        start(&call, f->c, appends[i]);
        wait_until_it_waits(f->db);
        cut(&call);
        assert_status(f->c, finish(&call), TL_E_CONNECTION);
        assert_true(tl_error_outcome_unknown(tl_client_error(f->c)));
        PQfinish(holder); /* the commit goes on */
        wait_for(f->db, "SELECT count(*) FROM trunkline.events");
        count = event_count(f->db);
        assert_status(f->c, appends[i](f->c), TL_OK);
        assert_true(rows[0].deduplicated);
        assert_int_equal(rows[0].version, 1);
        assert_int_equal(event_count(f->db), count);
        start_over(f->db);
    }
}

/* Terminated, out of time or cancelled while the stream is locked: nothing stored, and known but for
 * the first; the call works afterwards (EVS-16). */
static void an_append_that_waits_is_ended(void **state)
{
    struct fixture *f = *state;
    PGconn *other = test_db_connect(f->conninfo);
    tl_client *c;

    assert_status(f->c, append_one(f->c), TL_OK); /* schema and topic are known to work */
    start_over(f->db);
    for (size_t i = 0; i < APPENDS; i++) {
        struct call call;

        test_db_exec(other, "BEGIN; LOCK TABLE trunkline.streams IN ACCESS EXCLUSIVE MODE");
        start(&call, f->c, appends[i]);
        wait_until_it_waits(f->db);
        tl_client_cancel(f->c);
        assert_status(f->c, finish(&call), TL_E_CANCELLED);
        assert_false(tl_error_outcome_unknown(tl_client_error(f->c)));

        start(&call, f->c, appends[i]);
        wait_until_it_waits(f->db);
        test_db_exec(f->db, "SELECT pg_terminate_backend(pid) " BACKENDS);
        assert_status(f->c, finish(&call), TL_E_CONNECTION);
        assert_true(tl_error_outcome_unknown(tl_client_error(f->c)));
        assert_true(tl_error_is_retriable(tl_client_error(f->c)));
        test_db_exec(other, "ROLLBACK");
        assert_int_equal(event_count(f->db), 0);
    }
    assert_status(c, tl_client_open(f->conninfo, TL_CLIENT_OPTIONS(.timeout_us = 3000000), &c),
                  TL_OK);
    for (size_t i = 0; i < APPENDS; i++) {
        test_db_exec(other, "BEGIN; LOCK TABLE trunkline.streams IN ACCESS EXCLUSIVE MODE");
        assert_status(c, appends[i](c), TL_E_TIMEOUT);
        assert_false(tl_error_outcome_unknown(tl_client_error(c)));
        test_db_exec(other, "ROLLBACK");
        assert_int_equal(event_count(f->db), 0);
        assert_status(f->c, appends[i](f->c), TL_OK);
        assert_false(rows[0].deduplicated);
        start_over(f->db);
    }
    c = tl_client_close(c);
    PQfinish(other);
}

/* -------------------------------------------------------------------------------- aggregate -- */

static void *number_create(void *userdata)
{
    (void)userdata;
    return calloc(1, sizeof(int));
}

static tl_status number_apply(void *state, const tl_event *e, void *userdata)
{
    (void)userdata;
    *(int *)state += (int)strtol(tl_event_data(e, NULL), NULL, 10);
    return TL_OK;
}

static tl_repository *repository;
static tl_aggregate *aggregate;
static int calls_of_fn;

static tl_status save(tl_client *c)
{
    (void)c;
    return tl_repository_save(repository, aggregate);
}

static tl_status add_five(tl_aggregate *a, void *userdata)
{
    (void)userdata;
    calls_of_fn++;
    return tl_aggregate_raise(a, TL_NEW_EVENT(.type = "added", .data = "5"));
}

static tl_status update(tl_client *c)
{
    (void)c;
    return tl_repository_update(repository, "1", add_five, NULL, NULL, NULL);
}

/* AGG-5: events have ids, so a save is repeated until it is known; update() does that by itself. */
static void a_save_is_repeated(void **state)
{
    struct fixture *f = *state;
    PGconn *holder = test_db_connect(f->conninfo);
    struct call call;

    assert_status(f->c,
                  tl_repository_new(f->c,
                                    TL_AGGREGATE_TYPE(.name = "number", .create = number_create,
                                                      .apply = number_apply),
                                    NULL, &repository),
                  TL_OK);
    assert_status(f->c, tl_repository_create(repository, "1", &aggregate), TL_OK);
    assert_status(f->c, tl_aggregate_raise(aggregate, TL_NEW_EVENT(.type = "added", .data = "7")),
                  TL_OK);

    make_commits_wait(f->db);
    test_db_exec(holder, "SELECT pg_advisory_lock(4711)");
    start(&call, f->c, save);
    wait_until_it_waits(f->db);
    cut(&call);
    assert_status(f->c, finish(&call), TL_E_CONNECTION);
    assert_true(tl_error_outcome_unknown(tl_client_error(f->c)));
    assert_int_equal(tl_aggregate_pending(aggregate), 1);
    assert_int_equal(tl_aggregate_version(aggregate), 0);
    test_db_exec(holder, "SELECT pg_advisory_unlock(4711)");
    assert_status(f->c, tl_repository_save(repository, aggregate), TL_OK);
    assert_int_equal(tl_aggregate_pending(aggregate), 0);
    assert_int_equal(tl_aggregate_version(aggregate), 1);
    assert_int_equal(event_count(f->db), 1);

    calls_of_fn = 0;
    test_db_exec(holder, "SELECT pg_advisory_lock(4711)");
    start(&call, f->c, update);
    wait_until_it_waits(f->db);
    cut(&call);
    test_db_exec(holder, "SELECT pg_advisory_unlock(4711)");
    assert_status(f->c, finish(&call), TL_OK);
    assert_int_equal(calls_of_fn, 1); /* only the save was repeated */
    assert_int_equal(event_count(f->db), 2);
    aggregate = tl_aggregate_free(aggregate);
    assert_status(f->c, tl_repository_load(repository, "1", &aggregate), TL_OK);
    assert_int_equal(*(int *)tl_aggregate_state(aggregate), 12);
    aggregate = tl_aggregate_free(aggregate);
    repository = tl_repository_free(repository);
    PQfinish(holder);
}

static pid_t stopped;

static tl_status stop_and_add(tl_aggregate *a, void *userdata)
{
    stopped = PQbackendPID(tl_client_pgconn(userdata));
    assert_int_equal(kill(stopped, SIGSTOP), 0);
    return add_five(a, NULL);
}

/* A server session that answers no more, and after the repetition does what it was told: stored once. */
static void a_silent_save_is_repeated(void **state)
{
    struct fixture *f = *state;
    char sql[100];
    tl_client *c;

    assert_status(c, tl_client_open(f->conninfo, TL_CLIENT_OPTIONS(.timeout_us = 500000), &c),
                  TL_OK);
    assert_status(c,
                  tl_repository_new(c,
                                    TL_AGGREGATE_TYPE(.name = "number", .create = number_create,
                                                      .apply = number_apply),
                                    NULL, &repository),
                  TL_OK);
    /* prepared: what waits for an answer is the save */
    assert_status(c,
                  tl_repository_update(repository, "0", add_five, NULL,
                                       TL_UPDATE_OPTIONS(.create = true), NULL),
                  TL_OK);
    calls_of_fn = 0;
    assert_status(c,
                  tl_repository_update(repository, "1", stop_and_add, c,
                                       TL_UPDATE_OPTIONS(.create = true), NULL),
                  TL_OK);
    assert_int_equal(calls_of_fn, 1);
    assert_int_equal(event_count(f->db), 2);
    assert_int_equal(kill(stopped, SIGCONT), 0);
    snprintf(sql, sizeof sql, "SELECT (count(*) = 0)::int FROM pg_stat_activity WHERE pid = %d",
             (int)stopped);
    wait_for(f->db, sql);
    assert_int_equal(event_count(f->db), 2);
    repository = tl_repository_free(repository);
    c = tl_client_close(c);
}

/* ---------------------------------------------------------------------------------- reading -- */

static void append_n(struct fixture *f, int n)
{
    tl_new_event *events = calloc((size_t)n, sizeof *events);

    for (int i = 0; i < n; i++)
        events[i] = (tl_new_event){.size = sizeof *events, .type = "a", .data = "{\"x\": 1}"};
    assert_status(f->c, tl_append(f->c, "s-1", TL_EXPECT_ANY, events, (size_t)n, NULL, NULL),
                  TL_OK);
    free(events);
}

static tl_reader *reader;
static int64_t read_version;

static tl_status next(tl_client *c)
{
    const tl_event *e;
    tl_status status = tl_reader_next(reader, &e);

    (void)c;
    if (status == TL_OK)
        read_version = tl_event_version(e);
    return status;
}

/* EVS-11: killed between two pages and in the middle of one, it goes on behind its last event. */
static void a_reader_survives(void **state)
{
    struct fixture *f = *state;
    PGconn *other = test_db_connect(f->conninfo);
    struct call call;

    append_n(f, 100);
    for (int kind = 0; kind < 3; kind++) {
        const tl_reader_options *opts = TL_READER_OPTIONS(.page_events = 7);

        if (kind == 0)
            assert_status(f->c, tl_reader_open_stream(f->c, "s-1", opts, &reader), TL_OK);
        else if (kind == 1)
            assert_status(f->c, tl_reader_open_category(f->c, "s", opts, &reader), TL_OK);
        else
            assert_status(f->c, tl_reader_open_all(f->c, opts, &reader), TL_OK);
        for (int i = 1; i <= 100; i++) {
            if (i % 10 == 5)
                terminate(f->db);
            if (i ==
                50) { /* the first of a page: it waits for the topic, and its session is killed */
                test_db_exec(other,
                             "BEGIN; LOCK TABLE trunkline.topic_store IN ACCESS EXCLUSIVE MODE");
                start(&call, f->c, next);
                wait_until_it_waits(f->db);
                test_db_exec(f->db, "SELECT pg_terminate_backend(pid) " BACKENDS);
                wait_until_it_waits(f->db); /* again, on a new one */
                test_db_exec(other, "ROLLBACK");
                assert_status(f->c, finish(&call), TL_OK);
            } else {
                assert_status(f->c, next(f->c), TL_OK);
            }
            assert_int_equal(read_version, i);
            assert_int_equal(tl_reader_after(reader), i);
        }
        assert_status(f->c, next(f->c), TL_NOTHING);
        reader = tl_reader_close(reader);
    }
    PQfinish(other);
}

/* EVS-6: nobody answers: an error from every call, never "nothing" or version 0; then it works again. */
static void an_outage_is_an_error(void **state)
{
    struct fixture *f = *state;
    PGconn *admin = test_db_connect(getenv("TRUNKLINE_TEST_DB"));
    tl_repository *r;
    tl_aggregate *a = NULL;
    tl_streams *streams = NULL;
    tl_snapshot *snapshot = NULL;
    tl_batch *batch = NULL;
    int64_t version = -1;
    bool exists = true;
    char sql[256];
    tl_client *c;

    append_n(f, 3);
    assert_status(
        c,
        tl_client_open(f->conninfo,
                       TL_CLIENT_OPTIONS(.timeout_us = 3000000, .reconnect_base_us = 10000), &c),
        TL_OK);
    assert_status(c,
                  tl_repository_new(c,
                                    TL_AGGREGATE_TYPE(.name = "s", .create = number_create,
                                                      .apply = number_apply),
                                    NULL, &r),
                  TL_OK);
    assert_status(c, tl_reader_open_stream(c, "s-1", TL_READER_OPTIONS(.page_events = 1), &reader),
                  TL_OK);
    assert_status(c, next(c), TL_OK);
    snprintf(sql, sizeof sql, "ALTER DATABASE %s ALLOW_CONNECTIONS false", PQdb(f->db));
    test_db_exec(admin, sql);
    terminate(f->db);
    assert_status(c, next(c), TL_E_CONNECTION);
    assert_status(c, next(c), TL_E_CONNECTION);
    assert_int_equal(tl_reader_after(reader), 1);
    assert_status(c, tl_stream_version(c, "s-1", NULL, &version), TL_E_CONNECTION);
    assert_int_equal(version, -1);
    assert_status(c, tl_stream_exists(c, "s-1", NULL, &exists), TL_E_CONNECTION);
    assert_status(c, tl_stream_info(c, "s-1", NULL, &streams), TL_E_CONNECTION);
    assert_status(c, tl_stream_list(c, NULL, &streams), TL_E_CONNECTION);
    assert_status(c, tl_find(c, ID1, NULL, &batch), TL_E_CONNECTION);
    assert_status(c, tl_snapshot_get(c, "s-1", NULL, &snapshot), TL_E_CONNECTION);
    assert_status(c, tl_repository_load(r, "1", &a), TL_E_CONNECTION);
    assert_status(c, tl_repository_load_or_create(r, "1", &a), TL_E_CONNECTION);
    assert_status(c, tl_repository_exists(r, "1", &exists), TL_E_CONNECTION);
    assert_status(c, tl_repository_version(r, "1", &version), TL_E_CONNECTION);
    assert_null(a);
    assert_true(exists);
    snprintf(sql, sizeof sql, "ALTER DATABASE %s ALLOW_CONNECTIONS true", PQdb(f->db));
    test_db_exec(admin, sql);
    assert_status(c, next(c), TL_OK);
    assert_int_equal(read_version, 2);
    assert_status(c, tl_repository_load(r, "1", &a), TL_OK);
    assert_int_equal(tl_aggregate_version(a), 3);
    a = tl_aggregate_free(a);
    r = tl_repository_free(r);
    reader = tl_reader_close(reader);
    c = tl_client_close(c);
    PQfinish(admin);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(a_lost_commit_is_repeated),
        test_with_client(an_append_that_waits_is_ended),
        test_with_client(a_save_is_repeated),
        test_with_client(a_silent_save_is_repeated),
        test_with_client(a_reader_survives),
        test_with_client(an_outage_is_an_error),
    };

    return cmocka_run_group_tests_name("store_outcome", tests, NULL, NULL);
}
