/* publisher.c: group publish (PUB-1, PUB-5, PUB-6, PUB-7): events of many threads and of a loop in one commit, each
 * with its own end: refused, unknown, closed, out of time. Batches are forced: a lock on the topic holds the
 * one on its way while the next one collects. */
#include "client_test.h"

#include <poll.h>
#include <pthread.h>

struct job {
    pthread_t thread;
    tl_publisher *p;
    const char *topic;
    tl_new_event event;
    tl_status status;
    tl_receipt receipt;
    tl_error *error;
};

static void *run_job(void *arg)
{
    struct job *job = arg;

    job->status = tl_publisher_publish(job->p, job->topic, &job->event, &job->receipt, &job->error);
    return NULL;
}

#define EVENT(...) ((tl_new_event){.size = sizeof(tl_new_event), __VA_ARGS__})

/* Events that were taken, whether they have ended or not. */
static uint64_t taken(const tl_publisher *p)
{
    tl_publisher_stats stats;

    tl_publisher_get_stats(p, &stats);
    return stats.pending + stats.published + stats.failed;
}

static void wait_until_taken(const tl_publisher *p, uint64_t n)
{
    for (int i = 0; i < 24000 && taken(p) != n; i++) {
        struct timespec pause = {.tv_nsec = 5000000};

        (void)nanosleep(&pause, NULL);
    }
    assert_int_equal(taken(p), n);
}

/* Waits until the event is taken, so that jobs are in order. */
static void start_job(struct job *job, tl_publisher *p, const char *topic, tl_new_event event)
{
    uint64_t before = taken(p);

    *job = (struct job){.p = p, .topic = topic, .event = event};
    assert_int_equal(pthread_create(&job->thread, NULL, run_job, job), 0);
    wait_until_taken(p, before + 1);
}

static void end_job(struct job *job, tl_status expected)
{
    assert_int_equal(pthread_join(job->thread, NULL), 0);
    if (job->status != expected)
        fail_msg("%s: %s (%s), not %s", job->event.type, tl_status_name(job->status),
                 tl_error_message(job->error), tl_status_name(expected));
    assert_true((job->status == TL_OK) == (job->error == NULL));
}

static tl_publisher *open_publisher(struct fixture *f, const tl_publisher_options *opts)
{
    tl_publisher *p = NULL;

    assert_status(f->c, tl_publisher_new(f->c, opts, &p), TL_OK);
    return p;
}

static tl_publisher_stats stats_of(const tl_publisher *p)
{
    tl_publisher_stats stats;

    tl_publisher_get_stats(p, &stats);
    return stats;
}

/* A session of its own: in a transaction pg_stat_activity does not change. */
static PGconn *lock_topic(struct fixture *f, const char *topic)
{
    PGconn *lock = test_db_connect(f->conninfo);
    char sql[100];

    snprintf(sql, sizeof sql, "BEGIN; LOCK TABLE trunkline.topic_%s IN EXCLUSIVE MODE", topic);
    test_db_exec(lock, sql);
    return lock;
}

static void unlock(PGconn *lock)
{
    test_db_exec(lock, "COMMIT");
    PQfinish(lock);
}

/* Sessions of publishers: they wait for a lock, and f->c never does. */
#define BLOCKED                                                                                    \
    "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND "    \
    "wait_event_type = 'Lock'"

static void wait_until_blocked(struct fixture *f)
{
    wait_for(f->db, "SELECT count(*) " BLOCKED);
}

/* The event of a receipt, as the log has it: its data. */
static void assert_stored(struct fixture *f, const tl_receipt *receipt, const char *data)
{
    char sql[200];
    PGresult *res;

    snprintf(sql, sizeof sql,
             "SELECT data FROM trunkline.events WHERE \"position\" = %lld AND id = '%s'",
             (long long)receipt->position, receipt->id);
    res = test_db_query(f->db, sql);
    assert_int_equal(PQntuples(res), 1);
    assert_string_equal(PQgetvalue(res, 0, 0), data);
    PQclear(res);
}

/* --------------------------------------------------------------------------------------- threads -- */

static void a_lone_caller_waits_for_nobody(void **state)
{
    struct fixture *f = *state;
    tl_publisher *p = open_publisher(f, NULL);
    tl_receipt receipt;

    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            tl_publisher_publish(p, NULL, TL_NEW_EVENT(.type = "a.b", .data = "7"), &receipt, NULL),
            TL_OK);
        assert_stored(f, &receipt, "7");
    }
    assert_int_equal(tl_publisher_publish(p, "store", TL_NEW_EVENT(.type = "a.b"), NULL, NULL),
                     TL_OK);
    assert_int_equal(stats_of(p).commits, 4);
    assert_int_equal(stats_of(p).published, 4);
    assert_int_equal(stats_of(p).connections, 1);
    assert_int_equal(query_number(f->db, "SELECT count(*) FROM trunkline.topic_store"), 1);
    assert_null(tl_publisher_free(p));
}

static void what_collects_meanwhile_is_one_commit(void **state)
{
    enum { N = 33 };
    struct fixture *f = *state;
    PGconn *lock;
    tl_publisher *p = open_publisher(f, NULL);
    struct job jobs[N];
    char data[N][16];

    lock = lock_topic(f, "bus");
    for (int i = 0; i < N; i++) {
        /* topics and kinds of events are mixed: it is still one transaction */
        const char *topic = i % 3 == 2 ? "store" : i % 2 == 0 ? "bus" : NULL;

        snprintf(data[i], sizeof data[i], "%d", i);
        start_job(&jobs[i], p, topic,
                  EVENT(.type = "a.b", .data = data[i], .key = i % 4 == 0 ? "k" : NULL,
                        .ttl_us = i % 11 == 10 ? 3600000000u : 0));
        if (i == 0)
            wait_until_blocked(f);
    }
    unlock(lock);
    for (int i = 0; i < N; i++) {
        end_job(&jobs[i], TL_OK);
        assert_stored(f, &jobs[i].receipt, data[i]);
    }
    assert_int_equal(stats_of(p).commits, 2);
    assert_int_equal(stats_of(p).largest_batch, N - 1);
    assert_int_equal(query_number(f->db, "SELECT count(DISTINCT xmin::text) FROM trunkline.events"),
                     2);
    assert_int_equal(event_count(f->db), N);
    p = tl_publisher_free(p);
}

static void max_batch_ends_a_batch(void **state)
{
    enum { N = 8 };
    struct fixture *f = *state;
    PGconn *lock;
    tl_publisher *p = open_publisher(f, TL_PUBLISHER_OPTIONS(.max_batch = 3));
    struct job jobs[N];

    lock = lock_topic(f, "bus");
    for (int i = 0; i < N; i++) {
        start_job(&jobs[i], p, NULL, EVENT(.type = "a.b"));
        if (i == 0)
            wait_until_blocked(f);
    }
    unlock(lock);
    for (int i = 0; i < N; i++)
        end_job(&jobs[i], TL_OK);
    assert_int_equal(stats_of(p).largest_batch, 3);
    assert_int_equal(stats_of(p).commits, 4); /* 1, 3, 3, 1 */
    p = tl_publisher_free(p);
}

/* 4 MiB end a batch as well, and metadata count: large ones would be held in memory by the hundred. */
static void metadata_end_a_batch_too(void **state)
{
    enum { N = 100, BYTES = 60000 };
    struct fixture *f = *state;
    tl_publisher *p = open_publisher(f, NULL);
    char *metadata = malloc(BYTES + 3);

    memset(metadata, ' ', BYTES + 2);
    metadata[0] = '{';
    metadata[BYTES + 1] = '}';
    metadata[BYTES + 2] = 0;
    for (int i = 0; i < N; i++)
        assert_int_equal(tl_publisher_submit(p, NULL,
                                             TL_NEW_EVENT(.type = "a.b", .metadata = metadata),
                                             NULL, NULL, NULL),
                         TL_OK);
    assert_int_equal(tl_publisher_flush(p), TL_OK);
    assert_int_equal(event_count(f->db), N);
    assert_in_range(stats_of(p).largest_batch, 1, (4 << 20) / BYTES);
    p = tl_publisher_free(p);
    free(metadata);
}

/* Every event of every thread is stored once, with its own receipt; no thread is forgotten. */
static void *publish_often(void *arg)
{
    struct job *job = arg;

    for (int i = 0; i < 40 && job->status == TL_OK; i++) {
        char data[40];
        tl_receipt receipt = {0};

        snprintf(data, sizeof data, "{\"n\": %d, \"by\": \"%s\"}", i, job->event.key);
        job->event.data = data;
        job->status = tl_publisher_publish(job->p, NULL, &job->event, &receipt, &job->error);
        if (job->status == TL_OK && receipt.position <= job->receipt.position)
            job->status = TL_E_SERVER;
        job->receipt = receipt;
    }
    return NULL;
}

static void many_threads_at_once(void **state)
{
    enum { N = 32 };
    struct fixture *f = *state;
    tl_publisher *p = open_publisher(f, NULL);
    struct job jobs[N];
    char keys[N][8];

    for (int i = 0; i < N; i++) {
        snprintf(keys[i], sizeof keys[i], "%d", i);
        jobs[i] = (struct job){.p = p, .event = EVENT(.type = "a.b", .key = keys[i])};
        assert_int_equal(pthread_create(&jobs[i].thread, NULL, publish_often, &jobs[i]), 0);
    }
    for (int i = 0; i < N; i++) {
        end_job(&jobs[i], TL_OK);
        snprintf(keys[i], sizeof keys[i], "%d", i);
    }
    assert_int_equal(query_number(f->db, "SELECT count(DISTINCT (key, data)) FROM trunkline.events "
                                         "WHERE data ->> 'by' = key"),
                     N * 40);
    assert_int_equal(event_count(f->db), N * 40);
    assert_int_equal(stats_of(p).published, N * 40);
    p = tl_publisher_free(p);
}

/* ------------------------------------------------------------------------------------- own failures -- */

#define ID_1 "00000000-0000-7000-8000-000000000001"
#define ID_2 "00000000-0000-7000-8000-000000000002"

static void a_failure_is_its_callers_own(void **state)
{
    static char large[3000];
    const struct {
        const char *topic;
        tl_new_event event;
        tl_status status;
        const char *words;
    } all[] = {
        {NULL, {.type = "good.1"}, TL_OK, ""},
        {NULL, {.type = "bad.json", .data = "{\"secret"}, TL_E_INVALID, "not valid JSON"},
        {NULL, {.type = "good.2"}, TL_OK, ""},
        {NULL, {.type = "bad.nul", .data = "\"secret\\u0000\""}, TL_E_INVALID, "\\u0000"},
        {NULL, {.type = "good.3", .id = ID_1, .data = "1"}, TL_OK, ""},
        {NULL, {.type = "good.3", .id = ID_1, .data = "1"}, TL_OK, ""},
        {NULL, {.type = "bad.id", .id = ID_1, .data = "2"}, TL_E_CONFLICT, "other content"},
        {"no_such", {.type = "bad.topic"}, TL_E_NOTFOUND, "topic \"no_such\" does not exist"},
        {"store", {.type = "good.4"}, TL_OK, ""},
        {"tiny", {.type = "good.5", .data = "5"}, TL_OK, ""},
        {"tiny", {.type = "bad.size", .data = large}, TL_E_LIMIT, "data is larger"},
        {NULL, {.type = "bad.metadata", .metadata = "[]"}, TL_E_INVALID, "metadata is not"},
        {NULL, {.type = "good.6", .metadata = "{}"}, TL_OK, ""},
    };
    enum { N = sizeof all / sizeof all[0] };
    struct fixture *f = *state;
    PGconn *lock;
    tl_publisher *p = open_publisher(f, NULL);
    struct job first;
    struct job jobs[N];
    int64_t good = 0;

    memset(large, '1', sizeof large - 1);
    assert_status(f->c, tl_topic_create(f->c, "tiny", TL_TOPIC_OPTIONS(.max_event_bytes = 1024)),
                  TL_OK);
    lock = lock_topic(f, "bus");
    start_job(&first, p, NULL, EVENT(.type = "good.0"));
    wait_until_blocked(f);
    for (int i = 0; i < N; i++) {
        tl_new_event event = all[i].event;

        event.size = sizeof event;
        start_job(&jobs[i], p, all[i].topic, event);
    }
    unlock(lock);
    end_job(&first, TL_OK);
    for (int i = 0; i < N; i++) {
        end_job(&jobs[i], all[i].status);
        assert_contains(tl_error_message(jobs[i].error), all[i].words);
        assert_null(strstr(tl_error_message(jobs[i].error), "secret"));
        assert_false(tl_error_outcome_unknown(jobs[i].error));
        assert_int_equal(tl_error_index(jobs[i].error), -1);
        good += all[i].status == TL_OK;
        jobs[i].error = tl_error_free(jobs[i].error);
    }
    /* the repeat of an id is its first event */
    assert_int_equal(jobs[4].receipt.position, jobs[5].receipt.position);
    assert_true(jobs[5].receipt.deduplicated);
    assert_int_equal(event_count(f->db), good); /* good.0, and a repeat that adds none */
    assert_int_equal(
        query_number(f->db, "SELECT count(*) FROM trunkline.events WHERE type LIKE 'bad.%'"), 0);
    assert_int_equal(stats_of(p).published, good + 1);
    assert_int_equal(stats_of(p).failed, N - good);
    p = tl_publisher_free(p);
}

static void arguments_are_checked(void **state)
{
    struct fixture *f = *state;
    tl_publisher *p = NULL;
    tl_error *e = NULL;
    struct {
        tl_publisher_options known;
        char more;
    } longer = {.known = {.size = sizeof longer}, .more = 1};

    assert_status(f->c, tl_publisher_new(f->c, TL_PUBLISHER_OPTIONS(.max_batch = 10001), &p),
                  TL_E_INVALID);
    assert_contains(message(f->c), "max_batch");
    assert_status(f->c, tl_publisher_new(f->c, &longer.known, &p), TL_E_INVALID);
    assert_null(p);
    p = open_publisher(f, NULL);
    assert_int_equal(tl_publisher_publish(p, "No", TL_NEW_EVENT(.type = "a"), NULL, &e),
                     TL_E_INVALID);
    e = tl_error_free(e);
    assert_int_equal(tl_publisher_publish(p, NULL, TL_NEW_EVENT(.type = "a..b"), NULL, &e),
                     TL_E_INVALID);
    assert_contains(tl_error_message(e), "type");
    e = tl_error_free(e);
    assert_int_equal(tl_publisher_publish(p, NULL, NULL, NULL, NULL), TL_E_INVALID);
    assert_int_equal(
        tl_publisher_submit(p, NULL, TL_NEW_EVENT(.type = "a", .key = ""), NULL, NULL, &e),
        TL_E_INVALID);
    assert_contains(tl_error_message(e), "key");
    e = tl_error_free(e);
    assert_int_equal(stats_of(p).connections, 0); /* nothing was worth one */
    p = tl_publisher_free(p);
}

/* A transaction publishes the same id and does not end: only that event waits for it, and not for ever. */
static void an_id_that_is_taken_holds_up_nobody(void **state)
{
    struct fixture *f = *state;
    PGconn *lock;
    tl_publisher *p = open_publisher(f, NULL);
    PGconn *other = test_db_connect(f->conninfo);
    struct job first;
    struct job jobs[4];

    test_db_exec(other, "BEGIN; SELECT trunkline.publish('a.b', 'null', event_id => '" ID_1 "')");
    lock = lock_topic(f, "store");
    start_job(&first, p, "store", EVENT(.type = "a.b"));
    wait_until_blocked(f);
    for (int i = 0; i < 4; i++)
        start_job(&jobs[i], p, NULL,
                  EVENT(.type = "a.b", .id = i == 2   ? ID_1
                                             : i == 3 ? ID_2
                                                      : NULL));
    unlock(lock);
    end_job(&first, TL_OK);
    for (int i = 0; i < 4; i++)
        end_job(&jobs[i], i == 2 ? TL_E_TIMEOUT : TL_OK);
    assert_string_equal(tl_error_sqlstate(jobs[2].error), "55P03");
    assert_true(tl_error_is_retriable(jobs[2].error));
    assert_false(tl_error_outcome_unknown(jobs[2].error));
    jobs[2].error = tl_error_free(jobs[2].error);
    test_db_exec(other, "ROLLBACK");
    start_job(&jobs[2], p, NULL, EVENT(.type = "a.b", .id = ID_1));
    end_job(&jobs[2], TL_OK);
    assert_int_equal(event_count(f->db), 5);
    PQfinish(other);
    p = tl_publisher_free(p);
}

/* -------------------------------------------------------------------------------- lost connections -- */

static void a_lost_commit_is_unknown_to_its_batch_only(void **state)
{
    struct fixture *f = *state;
    PGconn *lock;
    tl_publisher *p = open_publisher(f, NULL);
    struct job first;
    struct job second[3];
    struct job third[2];

    lock = lock_topic(f, "bus");
    start_job(&first, p, NULL, EVENT(.type = "a.b"));
    wait_until_blocked(f);
    for (int i = 0; i < 3; i++)
        start_job(&second[i], p, NULL, EVENT(.type = "a.b"));
    assert_int_equal(query_number(f->db, "SELECT count(pg_terminate_backend(pid)) " BLOCKED), 1);
    end_job(&first, TL_E_CONNECTION);
    assert_true(tl_error_outcome_unknown(first.error));
    assert_true(tl_error_is_retriable(first.error));
    first.error = tl_error_free(first.error);

    /* those that waited are sent on a new connection */
    wait_for(f->db, "SELECT (count(*) = 1 AND bool_and(query LIKE '%unnest%'))::int " BLOCKED);
    for (int i = 0; i < 2; i++)
        start_job(&third[i], p, NULL, EVENT(.type = "a.b"));
    assert_int_equal(query_number(f->db, "SELECT count(pg_terminate_backend(pid)) " BLOCKED), 1);
    for (int i = 0; i < 3; i++) {
        end_job(&second[i], TL_E_CONNECTION);
        assert_true(tl_error_outcome_unknown(second[i].error));
        second[i].error = tl_error_free(second[i].error);
    }
    unlock(lock);
    for (int i = 0; i < 2; i++)
        end_job(&third[i], TL_OK);
    assert_int_equal(event_count(f->db), 2);
    assert_int_equal(stats_of(p).connections, 3);
    assert_int_equal(stats_of(p).failed, 4);
    p = tl_publisher_free(p);
}

static void a_connection_lost_while_idle_is_replaced(void **state)
{
    struct fixture *f = *state;
    tl_publisher *p = NULL;
    tl_client *c = NULL;

    assert_status(
        c, tl_client_open(f->conninfo, TL_CLIENT_OPTIONS(.application_name = "group"), &c), TL_OK);
    assert_status(c, tl_publisher_new(c, NULL, &p), TL_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tl_publisher_publish(p, NULL, TL_NEW_EVENT(.type = "a.b"), NULL, NULL),
                         TL_OK);
        test_db_exec(f->db, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                            "application_name = 'group' AND datname = current_database()");
        wait_for(
            f->db,
            "SELECT (count(*) = 0)::int FROM pg_stat_activity WHERE application_name = 'group' "
            "AND datname = current_database()");
    }
    assert_int_equal(event_count(f->db), 2);
    assert_int_equal(stats_of(p).connections, 2);
    p = tl_publisher_free(p);
    c = tl_client_close(c);
}

/* From another database, which it takes. */
static void allow_connections(struct fixture *f, bool is_allowed)
{
    char text[400];
    PGconn *other;

    snprintf(text, sizeof text, "%s dbname=postgres", f->conninfo);
    other = test_db_connect(text);
    snprintf(text, sizeof text, "ALTER DATABASE \"%s\" ALLOW_CONNECTIONS %s", PQdb(f->db),
             is_allowed ? "true" : "false");
    test_db_exec(other, text);
    PQfinish(other);
}

static void without_a_server_nothing_is_stored(void **state)
{
    struct fixture *f = *state;
    tl_publisher *p = open_publisher(f, NULL);
    tl_error *e = NULL;

    allow_connections(f, false);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tl_publisher_publish(p, NULL, TL_NEW_EVENT(.type = "a.b"), NULL, &e),
                         TL_E_CONNECTION);
        assert_false(tl_error_outcome_unknown(e));
        e = tl_error_free(e);
    }
    allow_connections(f, true);
    assert_int_equal(tl_publisher_publish(p, NULL, TL_NEW_EVENT(.type = "a.b"), NULL, NULL), TL_OK);
    assert_int_equal(event_count(f->db), 1);
    p = tl_publisher_free(p);
}

/* As behind a proxy that gives each transaction another session. */
static void statements_that_vanish_are_made_again(void **state)
{
    struct fixture *f = *state;
    tl_publisher *p = open_publisher(f, NULL);

    test_db_exec(f->db,
                 "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS "
                 "$$ BEGIN DEALLOCATE ALL; RETURN NULL; END $$; CREATE TRIGGER zz_forget AFTER "
                 "INSERT ON trunkline.topic_bus EXECUTE FUNCTION forget()");
    for (int i = 0; i < 6; i++)
        assert_int_equal(tl_publisher_publish(p, NULL, TL_NEW_EVENT(.type = "a.b"), NULL, NULL),
                         TL_OK);
    assert_int_equal(event_count(f->db), 6);
    assert_int_equal(stats_of(p).connections, 1);
    assert_int_equal(stats_of(p).failed, 0);
    p = tl_publisher_free(p);
}

static void without_an_answer_the_server_is_asked_to_cancel(void **state)
{
    struct fixture *f = *state;
    PGconn *lock;
    tl_client *c = NULL;
    tl_publisher *p = NULL;
    struct job first;
    struct job late;

    assert_status(c, tl_client_open(f->conninfo, TL_CLIENT_OPTIONS(.timeout_us = 300000), &c),
                  TL_OK);
    assert_status(c, tl_publisher_new(c, NULL, &p), TL_OK);
    lock = lock_topic(f, "bus");
    start_job(&first, p, NULL, EVENT(.type = "a.b"));
    end_job(&first, TL_E_TIMEOUT);
    assert_false(tl_error_outcome_unknown(first.error));
    assert_contains(tl_error_message(first.error), "300 ms");
    first.error = tl_error_free(first.error);
    unlock(lock);
    start_job(&late, p, NULL, EVENT(.type = "a.b"));
    end_job(&late, TL_OK);
    assert_int_equal(event_count(f->db), 1);
    p = tl_publisher_free(p);
    c = tl_client_close(c);
}

/* ------------------------------------------------------------------------------------------- close -- */

static void *run_free(void *p)
{
    return tl_publisher_free(p);
}

static void closed_while_callers_wait(void **state)
{
    struct fixture *f = *state;
    PGconn *lock;
    tl_publisher *p = open_publisher(f, NULL);
    struct job first;
    struct job jobs[4];
    pthread_t thread;
    void *result = p;

    lock = lock_topic(f, "bus");
    start_job(&first, p, NULL, EVENT(.type = "a.b"));
    wait_until_blocked(f);
    for (int i = 0; i < 4; i++)
        start_job(&jobs[i], p, NULL, EVENT(.type = "a.b"));
    assert_int_equal(pthread_create(&thread, NULL, run_free, p), 0);
    /* what was not sent ends at once, what was sent is waited for */
    for (int i = 0; i < 4; i++) {
        end_job(&jobs[i], TL_E_CLOSED);
        assert_false(tl_error_outcome_unknown(jobs[i].error));
        jobs[i].error = tl_error_free(jobs[i].error);
    }
    unlock(lock);
    end_job(&first, TL_OK);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_null(result);
    assert_int_equal(event_count(f->db), 1);
}

static void nothing_is_taken_after_a_stop(void **state)
{
    struct fixture *f = *state;
    tl_publisher *p = open_publisher(f, NULL);

    tl_publisher_stop(p);
    assert_int_equal(tl_publisher_publish(p, NULL, TL_NEW_EVENT(.type = "a.b"), NULL, NULL),
                     TL_E_CLOSED);
    assert_int_equal(tl_publisher_submit(p, NULL, TL_NEW_EVENT(.type = "a.b"), NULL, NULL, NULL),
                     TL_E_CLOSED);
    assert_int_equal(tl_publisher_flush(p), TL_E_CLOSED);
    assert_int_equal(tl_publisher_process(p), TL_NOTHING);
    assert_int_equal(event_count(f->db), 0);
    p = tl_publisher_free(p);
}

/* -------------------------------------------------------------------------------------------- loop -- */

struct heard {
    tl_publisher *p;
    int count, good, again;
    int64_t last;
    bool is_disordered;
    tl_status status, nested;
    bool is_unknown;
};

static void hear(tl_status status, const tl_receipt *receipt, const tl_error *error, void *userdata)
{
    struct heard *h = userdata;

    h->count++;
    h->status = status;
    h->is_unknown = tl_error_outcome_unknown(error);
    assert_true((status == TL_OK) == (receipt != NULL) && (status == TL_OK) == (error == NULL));
    if (receipt != NULL) {
        h->good++;
        h->is_disordered = h->is_disordered || receipt->position <= h->last;
        h->last = receipt->position;
    }
    if (h->again > 0) {
        h->again--;
        assert_int_equal(
            tl_publisher_submit(h->p, NULL, TL_NEW_EVENT(.type = "again"), hear, h, NULL), TL_OK);
        h->nested = tl_publisher_publish(h->p, NULL, TL_NEW_EVENT(.type = "nested"), NULL, NULL);
        assert_ptr_equal(tl_publisher_free(h->p), h->p);
    }
}

/* A program's loop, until so many have been heard of. */
static void loop(tl_publisher *p, const struct heard *h, int count)
{
    uint64_t end_us = clock_us() + 120000000;

    while (h->count < count) {
        struct pollfd fd = {.fd = tl_publisher_fd(p), .events = (short)tl_publisher_events(p)};
        uint64_t at_us = tl_publisher_deadline_us(p);
        uint64_t now_us = clock_us();
        int wait_ms = at_us <= now_us            ? 0
                      : at_us - now_us > 1000000 ? 1000
                                                 : (int)((at_us - now_us) / 1000);

        assert_true(now_us < end_us);
        (void)poll(&fd, 1, wait_ms);
        assert_int_equal(tl_publisher_process(p), TL_OK);
    }
}

static void a_loop_submits_and_hears(void **state)
{
    struct fixture *f = *state;
    tl_publisher *p = open_publisher(f, TL_PUBLISHER_OPTIONS(.max_pending = 100));
    struct heard h = {.p = p, .again = 2};
    tl_error *e = NULL;

    for (int i = 0; i < 100; i++) {
        char data[16];

        snprintf(data, sizeof data, "%d", i);
        assert_int_equal(
            tl_publisher_submit(p, NULL,
                                TL_NEW_EVENT(.type = "a.b", .key = "k", .source = "s",
                                             .tenant_id = "t", .metadata = "{\"m\": 1}",
                                             .data = data, .expires_at_us = 1767225600000000),
                                hear, &h, NULL),
            TL_OK);
    }
    assert_int_equal(tl_publisher_submit(p, NULL, TL_NEW_EVENT(.type = "a.b"), hear, &h, &e),
                     TL_E_LIMIT);
    assert_contains(tl_error_message(e), "100 events");
    e = tl_error_free(e);
    assert_int_equal(h.count, 0);
    loop(p, &h, 102);
    assert_int_equal(h.good, 102);
    assert_false(h.is_disordered);
    assert_int_equal(h.nested, TL_E_INVALID);
    assert_int_equal(
        query_number(f->db,
                     "SELECT count(*) FROM (SELECT data, row_number() OVER (ORDER BY "
                     "\"position\") - 1 AS n FROM trunkline.events WHERE (type, key, source, "
                     "tenant_id, metadata, expires_at) = ('a.b', 'k', 's', 't', "
                     "'{\"m\": 1}', '2026-01-01 00:00:00+00')) e WHERE data::text = n::text"),
        100);
    assert_int_equal(stats_of(p).pending, 0);

    /* one that is refused is heard of, too */
    assert_int_equal(
        tl_publisher_submit(p, NULL, TL_NEW_EVENT(.type = "a.b", .data = "{"), hear, &h, NULL),
        TL_OK);
    loop(p, &h, 103);
    assert_int_equal(h.status, TL_E_INVALID);
    assert_int_equal(event_count(f->db), 102);
    assert_null(tl_publisher_free(p));
}

static void *submit_later(void *arg)
{
    struct heard *h = arg;

    assert_int_equal(tl_publisher_submit(h->p, NULL, TL_NEW_EVENT(.type = "a.b"), hear, h, NULL),
                     TL_OK);
    return NULL;
}

/* Asleep without a deadline, it is woken by an event of another thread; by one that waits, it is not needed. */
static void other_threads_wake_a_loop(void **state)
{
    struct fixture *f = *state;
    tl_publisher *p = open_publisher(f, NULL);
    struct heard h = {.p = p};
    struct pollfd fd = {.fd = tl_publisher_fd(p), .events = POLLIN};
    pthread_t thread;

    for (int i = 1; i <= 3; i++) {
        assert_int_equal(tl_publisher_process(p), TL_OK);
        assert_true(tl_publisher_deadline_us(p) == UINT64_MAX);
        assert_int_equal(poll(&fd, 1, 0), 0);
        assert_int_equal(pthread_create(&thread, NULL, submit_later, &h), 0);
        assert_int_equal(poll(&fd, 1, 120000), 1);
        loop(p, &h, i);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(tl_publisher_publish(p, NULL, TL_NEW_EVENT(.type = "a.b"), NULL, NULL),
                         TL_OK);
    }
    assert_int_equal(event_count(f->db), 6);
    p = tl_publisher_free(p);
}

/* A thread that had its answer leaves what it has begun for the loop, which slept: it must learn until when. */
static void a_loop_hears_until_when_it_may_sleep(void **state)
{
    struct fixture *f = *state;
    PGconn *bus;
    PGconn *store;
    tl_client *c = NULL;
    tl_publisher *p = NULL;
    struct job first;
    struct heard h = {0};
    struct pollfd fd = {.events = POLLIN};

    assert_status(c, tl_client_open(f->conninfo, TL_CLIENT_OPTIONS(.timeout_us = 10000000), &c),
                  TL_OK);
    assert_status(c, tl_publisher_new(c, NULL, &p), TL_OK);
    fd.fd = tl_publisher_fd(p);
    bus = lock_topic(f, "bus");
    store = lock_topic(f, "store");
    start_job(&first, p, NULL, EVENT(.type = "a.b"));
    wait_until_blocked(f);
    assert_int_equal(tl_publisher_submit(p, "store", TL_NEW_EVENT(.type = "a.b"), hear, &h, NULL),
                     TL_OK);
    assert_int_equal(tl_publisher_process(p), TL_OK);
    assert_true(tl_publisher_deadline_us(p) == UINT64_MAX); /* the thread drives */
    unlock(bus);
    end_job(&first, TL_OK);
    assert_int_equal(poll(&fd, 1, 120000), 1);
    assert_int_equal(tl_publisher_process(p), TL_OK);
    assert_true(tl_publisher_deadline_us(p) < UINT64_MAX);
    unlock(store);
    loop(p, &h, 1);
    assert_int_equal(h.good, 1);
    p = tl_publisher_free(p);
    c = tl_client_close(c);
}

static void free_inside(tl_status status, const tl_receipt *receipt, const tl_error *error,
                        void *userdata)
{
    struct heard *h = userdata;

    (void)receipt;
    (void)error;
    h->count++;
    h->status = status;
    assert_ptr_equal(tl_publisher_free(h->p), h->p);
}

static void a_callback_cannot_free(void **state)
{
    struct fixture *f = *state;
    tl_publisher *p = open_publisher(f, NULL);
    struct heard h = {.p = p};

    for (int i = 0; i < 2; i++)
        assert_int_equal(
            tl_publisher_submit(p, NULL, TL_NEW_EVENT(.type = "a.b"), free_inside, &h, NULL),
            TL_OK);
    assert_null(tl_publisher_free(p));
    assert_int_equal(h.count, 2);
    assert_int_equal(h.status, TL_E_CLOSED);
}

static void flush_waits_for_all(void **state)
{
    struct fixture *f = *state;
    tl_publisher *p = open_publisher(f, TL_PUBLISHER_OPTIONS(.max_batch = 4));
    struct heard h = {.p = p};

    for (int i = 0; i < 10; i++)
        assert_int_equal(
            tl_publisher_submit(p, i % 2 == 0 ? NULL : "store",
                                TL_NEW_EVENT(.type = "a.b", .data = i == 7 ? "{" : "1"), hear, &h,
                                NULL),
            TL_OK);
    assert_int_equal(tl_publisher_flush(p), TL_OK);
    assert_int_equal(h.count, 10);
    assert_int_equal(h.good, 9);
    assert_int_equal(event_count(f->db), 9);
    assert_int_equal(tl_publisher_flush(p), TL_OK); /* nothing there */

    /* what was not sent when it is freed is told so */
    assert_int_equal(tl_publisher_submit(p, NULL, TL_NEW_EVENT(.type = "a.b"), hear, &h, NULL),
                     TL_OK);
    assert_null(tl_publisher_free(p));
    assert_int_equal(h.count, 11);
    assert_int_equal(h.status, TL_E_CLOSED);
    assert_false(h.is_unknown);
    assert_int_equal(event_count(f->db), 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(a_lone_caller_waits_for_nobody),
        test_with_client(what_collects_meanwhile_is_one_commit),
        test_with_client(max_batch_ends_a_batch),
        test_with_client(metadata_end_a_batch_too),
        test_with_client(many_threads_at_once),
        test_with_client(a_failure_is_its_callers_own),
        test_with_client(arguments_are_checked),
        test_with_client(an_id_that_is_taken_holds_up_nobody),
        test_with_client(a_lost_commit_is_unknown_to_its_batch_only),
        test_with_client(a_connection_lost_while_idle_is_replaced),
        test_with_client(without_a_server_nothing_is_stored),
        test_with_client(statements_that_vanish_are_made_again),
        test_with_client(without_an_answer_the_server_is_asked_to_cancel),
        test_with_client(closed_while_callers_wait),
        test_with_client(nothing_is_taken_after_a_stop),
        test_with_client(a_loop_submits_and_hears),
        test_with_client(other_threads_wake_a_loop),
        test_with_client(a_loop_hears_until_when_it_may_sleep),
        test_with_client(a_callback_cannot_free),
        test_with_client(flush_waits_for_all),
    };

    return cmocka_run_group_tests_name("publisher", tests, NULL, NULL);
}
