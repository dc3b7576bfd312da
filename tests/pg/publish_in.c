/* publish_in.c: tl_publish_in in a transaction of the caller (PUB-3). */
#include "client_test.h"

static void commit_and_rollback_are_the_callers(void **state)
{
    struct fixture *f = *state;
    PGconn *conn = test_db_connect(f->conninfo);
    tl_receipt receipt;

    test_db_exec(conn, "BEGIN");
    assert_int_equal(
        tl_publish_in(conn, NULL, NULL, TL_NEW_EVENT(.type = "a", .data = "1"), &receipt, NULL),
        TL_OK);
    assert_int_equal(PQtransactionStatus(conn), PQTRANS_INTRANS);
    assert_int_equal(strlen(receipt.id), 36);
    assert_int_equal(event_count(f->db), 0);
    test_db_exec(conn, "ROLLBACK");
    assert_int_equal(event_count(f->db), 0);

    test_db_exec(conn, "BEGIN");
    assert_int_equal(tl_publish_in(conn, "trunkline", "store",
                                   TL_NEW_EVENT(.type = "a", .data = "2"), &receipt, NULL),
                     TL_OK);
    assert_int_equal(tl_publish_in(conn, NULL, NULL,
                                   TL_NEW_EVENT(.type = "a", .data = "3",
                                                .id = "11111111-1111-4111-8111-111111111111"),
                                   &receipt, NULL),
                     TL_OK);
    test_db_exec(conn, "COMMIT");
    assert_int_equal(event_count(f->db), 2);

    /* none open: autocommit */
    assert_int_equal(tl_publish_in(conn, NULL, NULL, TL_NEW_EVENT(.type = "a"), NULL, NULL), TL_OK);
    assert_int_equal(PQtransactionStatus(conn), PQTRANS_IDLE);
    assert_int_equal(event_count(f->db), 3);
    PQfinish(conn);
}

static void aborted_transaction_is_refused(void **state)
{
    struct fixture *f = *state;
    PGconn *conn = test_db_connect(f->conninfo);
    tl_error *error = NULL;

    test_db_exec(conn, "BEGIN");
    test_db_exec(conn, "SAVEPOINT s");
    assert_int_equal(
        tl_publish_in(conn, NULL, NULL, TL_NEW_EVENT(.type = "a", .data = "{"), NULL, &error),
        TL_E_INVALID);
    assert_string_equal(tl_error_sqlstate(error), "22P02");
    assert_null(strstr(tl_error_message(error), "{"));
    error = tl_error_free(error);
    assert_int_equal(PQtransactionStatus(conn), PQTRANS_INERROR);
    assert_int_equal(tl_publish_in(conn, NULL, NULL, TL_NEW_EVENT(.type = "a"), NULL, &error),
                     TL_E_INVALID);
    assert_contains(tl_error_message(error), "aborted");
    assert_int_equal(tl_error_status(error), TL_E_INVALID);
    error = tl_error_free(error);
    test_db_exec(conn, "ROLLBACK TO s");
    assert_int_equal(tl_publish_in(conn, NULL, NULL, TL_NEW_EVENT(.type = "a"), NULL, &error),
                     TL_OK);
    assert_null(error);
    test_db_exec(conn, "COMMIT");
    assert_int_equal(event_count(f->db), 1);
    PQfinish(conn);
}

static void state_of_the_connection_is_kept(void **state)
{
    struct fixture *f = *state;
    PGconn *conn = test_db_connect(f->conninfo);
    PGresult *res;

    assert_int_equal(PQenterPipelineMode(conn), 1);
    assert_int_equal(tl_publish_in(conn, NULL, NULL, TL_NEW_EVENT(.type = "a"), NULL, NULL),
                     TL_E_INVALID);
    assert_int_equal(PQpipelineStatus(conn), PQ_PIPELINE_ON);
    assert_int_equal(PQexitPipelineMode(conn), 1);

    assert_int_equal(PQsetnonblocking(conn, 1), 0);
    assert_int_equal(tl_publish_in(conn, NULL, NULL, TL_NEW_EVENT(.type = "a"), NULL, NULL), TL_OK);
    assert_int_equal(PQisnonblocking(conn), 1);

    /* a query of the caller's in flight keeps its result */
    assert_int_equal(PQsendQuery(conn, "SELECT 42"), 1);
    assert_int_equal(tl_publish_in(conn, NULL, NULL, TL_NEW_EVENT(.type = "a"), NULL, NULL),
                     TL_E_INVALID);
    res = PQgetResult(conn);
    assert_string_equal(PQgetvalue(res, 0, 0), "42");
    PQclear(res);
    assert_null(PQgetResult(conn));
    assert_int_equal(event_count(f->db), 1);
    PQfinish(conn);
}

static void refusals_name_their_reason(void **state)
{
    struct fixture *f = *state;
    PGconn *conn = test_db_connect(f->conninfo);
    const struct {
        const char *schema, *topic, *type;
        tl_status status;
        const char *words;
    } cases[] = {
        {"a b", NULL, "a", TL_E_INVALID, "schema name"},
        {NULL, "A", "a", TL_E_INVALID, "topic name"},
        {NULL, NULL, "", TL_E_INVALID, "type is empty"},
        {NULL, "nope", "a", TL_E_NOTFOUND, "\"nope\" does not exist"},
    };
    tl_error *error = NULL;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(tl_publish_in(conn, cases[i].schema, cases[i].topic,
                                       TL_NEW_EVENT(.type = cases[i].type), NULL, &error),
                         cases[i].status);
        assert_contains(tl_error_message(error), cases[i].words);
        error = tl_error_free(error);
    }
    test_db_exec(conn, "SET client_encoding = latin1");
    assert_int_equal(tl_publish_in(conn, NULL, NULL, TL_NEW_EVENT(.type = "a"), NULL, &error),
                     TL_E_UNSUPPORTED);
    assert_contains(tl_error_message(error), "LATIN1");
    error = tl_error_free(error);
    assert_int_equal(tl_publish_in(NULL, NULL, NULL, TL_NEW_EVENT(.type = "a"), NULL, NULL),
                     TL_E_CONNECTION);
    PQfinish(conn);
}

/* Inside a transaction nothing is stored without the caller's commit, so the outcome is known. */
static void lost_connection_tells_the_outcome(void **state)
{
    struct fixture *f = *state;
    PGconn *conn = test_db_connect(f->conninfo);
    tl_error *error = NULL;
    char sql[100];

    snprintf(sql, sizeof sql, "SELECT pg_terminate_backend(%d, 5000)", PQbackendPID(conn));
    test_db_exec(conn, "BEGIN");
    test_db_exec(f->db, sql);
    assert_int_equal(tl_publish_in(conn, NULL, NULL, TL_NEW_EVENT(.type = "a"), NULL, &error),
                     TL_E_CONNECTION);
    assert_false(tl_error_outcome_unknown(error));
    error = tl_error_free(error);
    PQfinish(conn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(commit_and_rollback_are_the_callers),
        test_with_client(aborted_transaction_is_refused),
        test_with_client(state_of_the_connection_is_kept),
        test_with_client(refusals_name_their_reason),
        test_with_client(lost_connection_tells_the_outcome),
    };

    return cmocka_run_group_tests_name("publish_in", tests, NULL, NULL);
}
