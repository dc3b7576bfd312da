/*
 * util.c: queries that must not fail, statistics. Nothing here knows what is measured.
 */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

void die(const char *what, const char *detail)
{
    fprintf(stderr, "trunkline-bench: %s: %s\n", what, detail);
    exit(1);
}

void *need(void *memory)
{
    if (memory == NULL)
        die("memory", "none left");
    return memory;
}

char *argv_text(const char *constant)
{
    return (char *)(uintptr_t)constant;
}

/* ----------------------------------------------------------------------------------- query -- */

PGconn *connect_to(const char *conninfo, const char *application_name)
{
    const char *keywords[] = {"dbname", "application_name", NULL};
    const char *values[] = {conninfo, application_name, NULL};
    PGconn *conn = PQconnectdbParams(keywords, values, 1);

    if (PQstatus(conn) != CONNECTION_OK)
        die("connect", PQerrorMessage(conn));
    return conn;
}

static PGresult *query(PGconn *conn, const char *sql)
{
    PGresult *res = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(res);

    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        die(sql, PQerrorMessage(conn));
    return res;
}

void sql_exec(PGconn *conn, const char *sql)
{
    PQclear(query(conn, sql));
}

char *sql_value(PGconn *conn, const char *sql)
{
    PGresult *res = query(conn, sql);
    char *value = need(strdup(PQntuples(res) > 0 ? PQgetvalue(res, 0, 0) : ""));

    PQclear(res);
    return value;
}

int64_t sql_int(PGconn *conn, const char *sql)
{
    char *answer = sql_value(conn, sql);
    int64_t value = strtoll(answer, NULL, 10);

    free(answer);
    return value;
}

void sql_note(const struct bench *b, const char *name, const char *sql)
{
    PGresult *res = PQexec(b->admin, sql);
    bool is_good = PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) > 0;

    report_fact(name, is_good ? PQgetvalue(res, 0, 0) : "?");
    PQclear(res);
}

/* ------------------------------------------------------------------------------ statistics -- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

double quantile(double *values, size_t n, double q)
{
    if (n == 0)
        return 0;
    qsort(values, n, sizeof values[0], compare);
    return values[(size_t)((double)(n - 1) * q + 0.5)];
}

double median(const double *values, int n)
{
    double sorted[MAX_ROUNDS];

    if (n == 0)
        return 0;
    memcpy(sorted, values, (size_t)n * sizeof sorted[0]);
    qsort(sorted, (size_t)n, sizeof sorted[0], compare);
    return n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}
