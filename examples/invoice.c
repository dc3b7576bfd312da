/*
 * invoice.c: a business row and its event in one transaction. Rolled back, neither is there;
 * committed, both are. The amount is a string: JSON numbers are for numbers that may be rounded.
 */
#include "example.h"

#include <libpq-fe.h>
#include <string.h>

static void run(PGconn *conn, const char *sql)
{
    PGresult *res = PQexec(conn, sql);

    if (PQresultStatus(res) != PGRES_COMMAND_OK && PQresultStatus(res) != PGRES_TUPLES_OK) {
        fprintf(stderr, "%s", PQerrorMessage(conn));
        exit(1);
    }
    PQclear(res);
}

static void create_invoice(PGconn *conn, const char *total)
{
    const char *values[] = {total};
    char data[100];
    tl_error *error = NULL;
    tl_status status;

    PQclear(PQexecParams(conn, "INSERT INTO example_invoices (total) VALUES ($1::numeric)", 1, NULL,
                         values, NULL, NULL, 0));
    (void)snprintf(data, sizeof data, "{\"total\": \"%s\"}", total);
    status = tl_publish_in(
        conn, NULL, NULL,
        TL_NEW_EVENT(.type = "financial.invoice.created", .data = data, .tenant_id = "acme"), NULL,
        &error);
    need(status, error);
}

int main(void)
{
    const char *db = getenv("TRUNKLINE_DB");
    PGconn *conn = PQconnectdb(db != NULL ? db : "");
    tl_client *c = open_client();
    tl_batch *batch = NULL;
    int64_t before = 0;

    need(tl_horizon(c, NULL, &before), tl_client_error(c));
    run(conn, "SET client_min_messages = warning");
    run(conn,
        "CREATE TABLE IF NOT EXISTS example_invoices (id bigint GENERATED ALWAYS AS IDENTITY, "
        "total numeric NOT NULL)");

    run(conn, "BEGIN");
    create_invoice(conn, "1.00");
    run(conn, "ROLLBACK");

    run(conn, "BEGIN");
    create_invoice(conn, "12345678901234567890.10");
    run(conn, "COMMIT");

    need(tl_read(c, TL_READ_OPTIONS(.after = before, .pattern = "financial.invoice.*"), &batch),
         tl_client_error(c));
    for (size_t i = 0; i < tl_batch_count(batch); i++)
        printf("%s %s\n", tl_event_type(tl_batch_event(batch, i)),
               tl_event_data(tl_batch_event(batch, i), NULL));
    tl_batch_free(batch);
    tl_client_close(c);
    PQfinish(conn);
    return 0;
}
