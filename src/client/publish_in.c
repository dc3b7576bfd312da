/*
 * publish_in.c: work on a connection that belongs to the caller, and to publish on it. Keeps nothing between calls,
 * never begins or ends a transaction, leaves pipeline and nonblocking mode as they are.
 */
#include "publish.h"

#include <string.h>

/* May a statement be sent on it now? PQexec* would throw away results that the caller waits for. */
static tl_status conn_check(const PGconn *conn, struct tl_error *e)
{
    const char *encoding;

    if (conn == NULL || PQstatus(conn) != CONNECTION_OK)
        return tl__error_set(e, TL_E_CONNECTION, NULL, "connection is not open");
    if (PQpipelineStatus(conn) != PQ_PIPELINE_OFF)
        return tl__error_set(e, TL_E_INVALID, NULL, "connection is in pipeline mode");
    switch (PQtransactionStatus(conn)) {
    case PQTRANS_IDLE:
    case PQTRANS_INTRANS:
        break;
    case PQTRANS_INERROR:
        tl__error_set(e, TL_E_INVALID, "25P02", "transaction is aborted, nothing was published");
        tl__error_set_hint(e, "roll back first, to a savepoint or the whole transaction");
        return TL_E_INVALID;
    default:
        return tl__error_set(e, TL_E_INVALID, NULL, "connection is busy with another query");
    }
    encoding = PQparameterStatus(conn, "client_encoding");
    if (encoding != NULL && strcmp(encoding, "UTF8") != 0 && strcmp(encoding, "SQL_ASCII") != 0) {
        tl__error_set(e, TL_E_UNSUPPORTED, NULL,
                      "client_encoding of the connection is %s, not UTF8", encoding);
        return TL_E_UNSUPPORTED;
    }
    return TL_OK;
}

tl_status tl__exec_on(PGconn *conn, const char *schema, const char *topic,
                      const char *template_text, const struct tl__params *params,
                      struct tl_error *e, PGresult **ret)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf quoted = TL_BUF_INIT;
    TL_CLEANUP(tl__buf_done)
    struct tl__buf sql = TL_BUF_INIT;
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    bool is_autocommit;
    tl_status status;

    if (schema == NULL)
        schema = "trunkline";
    if ((status = tl__schema_check(e, schema)) != TL_OK || (status = conn_check(conn, e)) != TL_OK)
        return status;
    tl__quote_name(&quoted, schema);
    if (quoted.is_failed)
        return tl__error_nomem(e);
    tl__sql_expand(&sql, quoted.data, topic, template_text, strlen(template_text));
    if (sql.is_failed)
        return tl__error_nomem(e);

    is_autocommit = PQtransactionStatus(conn) == PQTRANS_IDLE;
    res = PQexecParams(conn, sql.data, params->n, NULL, params->values, params->lengths,
                       params->formats, 1);
    if (PQresultStatus(res) == PGRES_TUPLES_OK) {
        *ret = TL_STEAL(res);
        return TL_OK;
    }
    if (res == NULL)
        return PQstatus(conn) == CONNECTION_OK ? tl__error_nomem(e)
                                               : tl__error_from_conn(e, conn, is_autocommit);
    /* In a transaction of the caller nothing is stored without the caller's own commit. */
    return tl__error_from_result(e, res, is_autocommit);
}

tl_status tl__publish_no_topic(struct tl_error *e, const char *schema, const char *topic)
{
    tl__error_set(e, TL_E_NOTFOUND, "42P01", "topic \"%s\" does not exist", topic);
    tl__error_set_hint(
        e, "make it with create_topic(), or run \"trunkline migrate\" if schema %s is missing",
        schema);
    return TL_E_NOTFOUND;
}

tl_status tl__publish_on(PGconn *conn, const char *schema, const char *topic,
                         const tl_new_event *event, tl_receipt *ret, struct tl_error *e)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf json = TL_BUF_INIT;
    TL_CLEANUP(tl__pqclearp)
    PGresult *res = NULL;
    struct tl__params params = TL_PARAMS_INIT;
    struct tl__element el;
    tl_status status;

    if ((status = tl__topic_load(e, topic, &topic)) != TL_OK ||
        (status = tl__element_load(e, event, &el)) != TL_OK ||
        (status = tl__publish_params(e, &el, topic, &json, &params)) != TL_OK)
        return status;
    status = tl__exec_on(conn, schema, topic, tl__publish_template(&el, true), &params, e, &res);
    if (status == TL_OK && PQntuples(res) != 1)
        return tl__error_set(e, TL_E_SERVER, NULL, "the server stored %d events instead of one",
                             PQntuples(res));
    if (status == TL_OK && ret != NULL)
        tl__receipt_from_row(res, 0, ret);
    if (status == TL_E_SCHEMA && e != NULL && strcmp(e->sqlstate, "42P01") == 0)
        status = tl__publish_no_topic(e, schema != NULL ? schema : "trunkline", topic);
    return status;
}

tl_status tl_publish_in(struct pg_conn *conn, const char *schema, const char *topic,
                        const tl_new_event *event, tl_receipt *ret, tl_error **ret_error)
{
    struct tl_error error;
    tl_status status;

    tl__error_clear(&error);
    status = tl__publish_on(conn, schema, topic, event, ret, &error);
    if (status != TL_OK)
        tl__error_give(&error, ret_error);
    return status;
}
