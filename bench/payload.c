/*
 * payload.c: the row that every variant writes, the bare table it is compared with, and the
 * statements of libtrunkline, which are asked for and not copied.
 */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

const char event_type[] = "financial.invoice.created";
const char event_tenant[] = "tenant-042";
/* Binary jsonb is version 1, then the text. */
static const char invoice_jsonb[] =
    "\1{\"invoice_id\":\"inv-2026-0042317\",\"customer\":{\"id\":\"cus-99817\",\"name\":\"ACME "
    "Corporation\"},\"total\":\"1234.56\",\"currency\":\"EUR\",\"lines\":[{\"sku\":\"A-1\","
    "\"qty\":2,\"price\":\"100.00\"},{\"sku\":\"B-2\",\"qty\":1,\"price\":\"1034.56\"}],\"due\":"
    "\"2026-12-01\",\"note\":\"payable within thirty days, two percent off within ten\"}";
const char *const invoice = invoice_jsonb + 1;

static void add(struct statement *st, const char *value, size_t len)
{
    st->values[st->n] = value;
    st->lengths[st->n] = (int)len;
    st->formats[st->n++] = 1;
}

void statement_text(struct statement *st, const char *value)
{
    add(st, value, strlen(value));
}

void statement_jsonb(struct statement *st, const char *versioned)
{
    add(st, versioned, strlen(versioned));
}

void statement_int8(struct statement *st, const char *big_endian)
{
    add(st, big_endian, 8);
}

void put_int8(char *into, int64_t value)
{
    for (int i = 0; i < 8; i++)
        into[i] = (char)((uint64_t)value >> (56 - 8 * i));
}

int64_t get_int8(const char *big_endian)
{
    uint64_t value = 0;

    for (int i = 0; i < 8; i++)
        value = value << 8 | (unsigned char)big_endian[i];
    return (int64_t)value;
}

void statement_invoice(struct statement *st)
{
    statement_jsonb(st, invoice_jsonb);
}

void statement_row(struct statement *st)
{
    statement_text(st, event_type);
    statement_text(st, event_tenant);
    statement_invoice(st);
}

void statement_library_row(struct statement *st)
{
    statement_text(st, event_type);
    statement_invoice(st);
    statement_text(st, event_tenant);
}

void tables_create(const struct bench *b)
{
    sql_exec(b->admin, "DROP TABLE IF EXISTS bench_bare");
    sql_exec(b->admin, "CREATE TABLE bench_bare (topic_id integer NOT NULL DEFAULT 1, "
                       "\"position\" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
                       "id uuid NOT NULL DEFAULT gen_random_uuid(), type text NOT NULL, "
                       "source text, stream text, version bigint, key text, tenant_id text, "
                       "data jsonb NOT NULL, metadata jsonb, expires_at timestamptz, "
                       "created_at timestamptz NOT NULL DEFAULT clock_timestamp())");
}

const char bare_sql[] = "INSERT INTO bench_bare (type, tenant_id, data) VALUES ($1, $2, $3) "
                        "RETURNING \"position\", id";

static void call_bare(void *context)
{
    PGconn *conn = context;
    struct statement st = {.n = 0};
    PGresult *res;

    statement_row(&st);
    res = PQexecPrepared(conn, "bare", st.n, st.values, st.lengths, st.formats, 1);
    if (PQresultStatus(res) != PGRES_TUPLES_OK)
        die("bare INSERT", PQerrorMessage(conn));
    PQclear(res);
}

struct caller bare_caller(const struct bench *b)
{
    PGconn *conn = connect_to(b->conninfo, "trunkline-bench load");

    PQclear(PQprepare(conn, "bare", bare_sql, 0, NULL));
    return (struct caller){conn, PQbackendPID(conn), call_bare};
}

char *library_statement(const struct bench *b)
{
    tl_receipt receipt; /* without one it would return nothing, and the bare side does */
    tl_client *c;
    char *sql;

    if (tl_client_open(b->conninfo, NULL, &c) != TL_OK ||
        tl_publish(c, NULL,
                   TL_NEW_EVENT(.type = event_type, .data = invoice, .tenant_id = event_tenant),
                   &receipt) != TL_OK)
        die("tl_publish", tl_error_message(tl_client_error(c)));
    sql = sql_value(tl_client_pgconn(c), "SELECT statement FROM pg_prepared_statements "
                                         "WHERE statement ILIKE 'insert into%'");
    tl_client_close(c);
    if (sql[0] == '\0')
        die("tl_publish", "its statement is not among the prepared ones");
    return sql;
}
