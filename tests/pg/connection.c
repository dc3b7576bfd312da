/* connection.c: what happens to a call when the connection, the server or the caller's patience
 * ends: known and unknown outcomes, time-outs, cancelling, reconnecting. */
#include "call.h"

#include <signal.h>

#define ID "22222222-2222-4222-8222-222222222222"
#define MANY 2500 /* a batch of several chunks: BEGIN ... COMMIT */

static tl_status publish_one(tl_client *c)
{
    return tl_publish(c, NULL, TL_NEW_EVENT(.type = "a", .id = ID), NULL);
}

/* Another id each time: one that is known already is found without waiting for the topic. */
static tl_status publish_new(tl_client *c)
{
    static int count;
    char id[37];

    snprintf(id, sizeof id, "33333333-3333-4333-8333-%012d", ++count);
    return tl_publish(c, NULL, TL_NEW_EVENT(.type = "a", .id = id), NULL);
}

static tl_status publish_plain(tl_client *c)
{
    return tl_publish(c, NULL, TL_NEW_EVENT(.type = "a"), NULL);
}

static tl_status publish_many(tl_client *c)
{
    static tl_new_event events[MANY];

    for (size_t i = 0; i < MANY; i++)
        events[i] = (tl_new_event){.size = sizeof events[i], .type = "a"};
    events[0].id = ID;
    return tl_publish_batch(c, NULL, events, MANY, NULL);
}

static tl_status read_some(tl_client *c)
{
    tl_batch *batch = NULL;
    tl_status status = tl_read(c, NULL, &batch);

    batch = tl_batch_free(batch);
    return status;
}

static void terminate(PGconn *db)
{
    test_db_exec(db, "SELECT pg_terminate_backend(pid) " BACKENDS);
}

static void lock_topic(PGconn *db)
{
    test_db_exec(db, "BEGIN; LOCK TABLE trunkline.topic_bus IN ACCESS EXCLUSIVE MODE");
}

/* Every commit of an event now waits for advisory lock 4711, which `holder` takes. */
static void make_commits_wait(PGconn *db, PGconn *holder)
{
    test_db_exec(db, "CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                     "PERFORM pg_advisory_lock(4711); PERFORM pg_advisory_unlock(4711); "
                     "RETURN NULL; END $$;"
                     "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON trunkline.topic_bus "
                     "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.wait()");
    test_db_exec(holder, "SELECT pg_advisory_lock(4711)");
}

static void terminated_while_it_waits_is_unknown(void **state)
{
    static tl_status (*const calls[])(tl_client *) = {publish_new, publish_plain, publish_many};
    struct fixture *f = *state;
    PGconn *other = test_db_connect(f->conninfo);

    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        struct call call;

        assert_status(f->c, calls[i](f->c), TL_OK); /* prepared, so that only the call waits */
        lock_topic(other);
        start(&call, f->c, calls[i]);
        wait_until_it_waits(f->db);
        terminate(f->db);
        assert_status(f->c, finish(&call), TL_E_CONNECTION);
        /* a batch of several statements had not sent... or had sent its COMMIT: never "failed" */
        assert_true(tl_error_outcome_unknown(tl_client_error(f->c)));
        assert_true(tl_error_is_retriable(tl_client_error(f->c)));
        assert_false(tl_error_is_fatal(tl_client_error(f->c)));
        test_db_exec(other, "ROLLBACK");
        assert_status(f->c, calls[i](f->c), TL_OK); /* reconnects by itself */
        assert_false(tl_error_outcome_unknown(tl_client_error(f->c)));
    }
    PQfinish(other);
}

static void reading_has_no_outcome(void **state)
{
    struct fixture *f = *state;
    struct call call;
    PGconn *other = test_db_connect(f->conninfo);

    lock_topic(other);
    start(&call, f->c, read_some);
    wait_until_it_waits(f->db);
    terminate(f->db);
    assert_status(f->c, finish(&call), TL_E_CONNECTION);
    assert_false(tl_error_outcome_unknown(tl_client_error(f->c)));
    PQfinish(other);
}

static void terminated_during_commit_is_unknown(void **state)
{
    static tl_status (*const calls[])(tl_client *) = {publish_one, publish_plain, publish_many};
    struct fixture *f = *state;
    PGconn *holder = test_db_connect(f->conninfo);

    make_commits_wait(f->db, holder);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        struct call call;

        start(&call, f->c, calls[i]);

        wait_until_it_waits(f->db);
        terminate(f->db);
        assert_status(f->c, finish(&call), TL_E_CONNECTION);
        assert_true(tl_error_outcome_unknown(tl_client_error(f->c)));
    }
    PQfinish(holder);
}

/* The wire is cut while the server commits: stored after all, and the repeat finds it. */
static void cut_during_commit_and_repeated_is_stored_once(void **state)
{
    static tl_status (*const calls[])(tl_client *) = {publish_one, publish_many};
    static const int64_t counts[] = {1, MANY};
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        PGconn *holder = test_db_connect(f->conninfo);
        tl_receipt receipt;
        struct call call;

        make_commits_wait(f->db, holder);
        start(&call, f->c, calls[i]);
        wait_until_it_waits(f->db);
        cut(&call);
        assert_status(f->c, finish(&call), TL_E_CONNECTION);
        assert_true(tl_error_outcome_unknown(tl_client_error(f->c)));
        PQfinish(holder); /* the commit goes on */
        wait_for(f->db, "SELECT count(*) FROM trunkline.events");
        assert_int_equal(event_count(f->db), counts[i]);
        assert_status(f->c, tl_publish(f->c, NULL, TL_NEW_EVENT(.type = "a", .id = ID), &receipt),
                      TL_OK);
        assert_true(receipt.deduplicated);
        assert_int_equal(event_count(f->db), counts[i]);

        test_db_exec(f->db, "DROP TRIGGER wait ON trunkline.topic_bus; DROP FUNCTION public.wait; "
                            "DELETE FROM trunkline.dedup; SET session_replication_role = replica; "
                            "TRUNCATE trunkline.events; SET session_replication_role = origin");
    }
}

static void lost_between_calls_is_replaced_before_the_next(void **state)
{
    struct fixture *f = *state;
    PGconn *admin = test_db_connect(getenv("TRUNKLINE_TEST_DB"));
    char sql[256];

    for (int i = 0; i < 3; i++) {
        assert_status(f->c, publish_plain(f->c), TL_OK);
        terminate(f->db);
        wait_for(f->db, "SELECT CASE count(*) WHEN 0 THEN 1 ELSE 0 END " BACKENDS);
    }
    assert_status(f->c, publish_plain(f->c), TL_OK);
    assert_int_equal(event_count(f->db), 4);

    /* nobody to reconnect to: not sent, and so known */
    snprintf(sql, sizeof sql, "ALTER DATABASE %s ALLOW_CONNECTIONS false", PQdb(f->db));
    test_db_exec(admin, sql);
    terminate(f->db);
    wait_for(f->db, "SELECT CASE count(*) WHEN 0 THEN 1 ELSE 0 END " BACKENDS);
    assert_status(f->c, publish_plain(f->c), TL_E_CONNECTION);
    assert_false(tl_error_outcome_unknown(tl_client_error(f->c)));
    assert_status(f->c, publish_many(f->c), TL_E_CONNECTION);
    assert_false(tl_error_outcome_unknown(tl_client_error(f->c)));
    snprintf(sql, sizeof sql, "ALTER DATABASE %s ALLOW_CONNECTIONS true", PQdb(f->db));
    test_db_exec(admin, sql);
    assert_status(f->c, publish_plain(f->c), TL_OK);
    PQfinish(admin);
}

static void time_outs_leave_the_connection_clean(void **state)
{
    static tl_status (*const calls[])(tl_client *) = {publish_one, publish_many, read_some};
    struct fixture *f = *state;
    PGconn *other = test_db_connect(f->conninfo);
    tl_client *c;
    int pid;

    assert_status(c, tl_client_open(f->conninfo, TL_CLIENT_OPTIONS(.timeout_us = 2000000), &c),
                  TL_OK);
    pid = PQbackendPID(tl_client_pgconn(c));
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        lock_topic(other);
        assert_status(c, calls[i](c), TL_E_TIMEOUT);
        assert_contains(message(c), "2000 ms");
        assert_true(tl_error_is_retriable(tl_client_error(c)));
        assert_false(tl_error_outcome_unknown(tl_client_error(c)));
        test_db_exec(other, "ROLLBACK");
        assert_int_equal(PQtransactionStatus(tl_client_pgconn(c)), PQTRANS_IDLE);
        assert_int_equal(PQpipelineStatus(tl_client_pgconn(c)), PQ_PIPELINE_OFF);
        assert_status(c, publish_plain(c), TL_OK);
        assert_int_equal(PQbackendPID(tl_client_pgconn(c)), pid);
    }
    assert_int_equal(event_count(f->db), 3);
    c = tl_client_close(c);
    PQfinish(other);
}

/* A server that does not even obey the cancel request: the connection is given up, and what it may
 * still do is not known. */
static void a_server_gone_silent_is_given_up(void **state)
{
    struct fixture *f = *state;
    tl_client *c;
    int pid;

    assert_status(c, tl_client_open(f->conninfo, TL_CLIENT_OPTIONS(.timeout_us = 2000000), &c),
                  TL_OK);
    assert_status(c, publish_plain(c), TL_OK);
    pid = PQbackendPID(tl_client_pgconn(c));
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_status(c, publish_plain(c), TL_E_TIMEOUT);
    assert_true(tl_error_outcome_unknown(tl_client_error(c)));
    assert_int_equal(kill(pid, SIGCONT), 0);
    assert_status(c, publish_plain(c), TL_OK); /* on a new connection */
    assert_int_not_equal(PQbackendPID(tl_client_pgconn(c)), pid);
    c = tl_client_close(c);
}

static void cancel_ends_a_call(void **state)
{
    static tl_status (*const calls[])(tl_client *) = {publish_one, publish_many, read_some};
    struct fixture *f = *state;
    PGconn *other = test_db_connect(f->conninfo);
    int pid = PQbackendPID(tl_client_pgconn(f->c));

    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        struct call call;

        lock_topic(other);
        start(&call, f->c, calls[i]);
        wait_until_it_waits(f->db);
        tl_client_cancel(f->c);
        assert_status(f->c, finish(&call), TL_E_CANCELLED);
        assert_false(tl_error_outcome_unknown(tl_client_error(f->c)));
        test_db_exec(other, "ROLLBACK");
        tl_client_cancel(f->c); /* nothing in progress: the next call does not feel it */
        assert_status(f->c, publish_plain(f->c), TL_OK);
        assert_int_equal(PQbackendPID(tl_client_pgconn(f->c)), pid);
    }
    PQfinish(other);
}

static void a_transaction_left_open_is_refused(void **state)
{
    struct fixture *f = *state;

    test_db_exec(tl_client_pgconn(f->c), "BEGIN");
    assert_status(f->c, publish_plain(f->c), TL_E_INVALID);
    assert_contains(message(f->c), "transaction");
    assert_int_equal(PQtransactionStatus(tl_client_pgconn(f->c)), PQTRANS_INTRANS);
    test_db_exec(tl_client_pgconn(f->c), "ROLLBACK");
    assert_status(f->c, publish_plain(f->c), TL_OK);
}

static void prepared_statements_may_vanish(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 6; i++) { /* prepared again, and from the third time on never again */
        assert_status(f->c, publish_plain(f->c), TL_OK);
        assert_string_equal(message(f->c), "");
        assert_int_equal(query_number(tl_client_pgconn(f->c),
                                      "SELECT count(*) FROM pg_prepared_statements WHERE "
                                      "statement ~ '^INSERT'"),
                         i < 3 ? 1 : 0);
        test_db_exec(tl_client_pgconn(f->c), "DEALLOCATE ALL");
    }
    assert_int_equal(event_count(f->db), 6);
}

static void connection_settings(void **state)
{
    struct fixture *f = *state;
    char conninfo[512];
    PGresult *res;
    tl_client *c;

    snprintf(conninfo, sizeof conninfo, "%s application_name=mine client_encoding=latin1",
             f->conninfo);
    assert_status(c, tl_client_open(conninfo, NULL, &c), TL_OK);
    res = test_db_query(tl_client_pgconn(c), "SHOW application_name");
    assert_string_equal(PQgetvalue(res, 0, 0), "mine");
    PQclear(res);
    res = test_db_query(tl_client_pgconn(c), "SHOW client_encoding");
    assert_string_equal(PQgetvalue(res, 0, 0), "UTF8");
    PQclear(res);
    c = tl_client_close(c);
    assert_status(c, tl_client_open(conninfo, TL_CLIENT_OPTIONS(.application_name = "option"), &c),
                  TL_OK);
    res = test_db_query(tl_client_pgconn(c), "SHOW application_name");
    assert_string_equal(PQgetvalue(res, 0, 0), "option");
    PQclear(res);
    assert_string_equal(tl_client_schema(c), "trunkline");
    assert_false(PQisnonblocking(tl_client_pgconn(c)));
    c = tl_client_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(terminated_while_it_waits_is_unknown),
        test_with_client(reading_has_no_outcome),
        test_with_client(terminated_during_commit_is_unknown),
        test_with_client(cut_during_commit_and_repeated_is_stored_once),
        test_with_client(lost_between_calls_is_replaced_before_the_next),
        test_with_client(time_outs_leave_the_connection_clean),
        test_with_client(a_server_gone_silent_is_given_up),
        test_with_client(cancel_ends_a_call),
        test_with_client(a_transaction_left_open_is_refused),
        test_with_client(prepared_statements_may_vanish),
        test_with_client(connection_settings),
    };

    return cmocka_run_group_tests_name("connection", tests, NULL, NULL);
}
