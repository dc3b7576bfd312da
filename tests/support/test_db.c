/*
 * test_db.c: see test_db.h. It uses libpq only, so that a broken client library cannot hide itself.
 */
#include "test_db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void die(const char *what, const char *message)
{
    printf("Bail out! %s: %s\n", what, message);
    fflush(stdout);
    exit(1);
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);

    if (value == NULL || value[0] == '\0')
        die(name, "not set; run the test by tools/run-tests or tools/pg-temp run");
    return value;
}

PGconn *test_db_connect(const char *conninfo)
{
    PGconn *conn = PQconnectdb(conninfo);

    if (PQstatus(conn) != CONNECTION_OK)
        die("connect", PQerrorMessage(conn));
    return conn;
}

PGresult *test_db_query(PGconn *conn, const char *sql)
{
    PGresult *res = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(res);

    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        die(sql, PQerrorMessage(conn));
    return res;
}

void test_db_exec(PGconn *conn, const char *sql)
{
    PQclear(test_db_query(conn, sql));
}

char *test_db_create(int from_template)
{
    static unsigned int count;
    PGconn *conn = test_db_connect(environment("TRUNKLINE_TEST_DB"));
    const char *template = from_template ? environment("TRUNKLINE_TEST_TEMPLATE") : "template0";
    char name[64];
    char sql[256];
    char *conninfo = NULL;

    snprintf(name, sizeof name, "t_%ld_%u", (long)getpid(), ++count);
    snprintf(sql, sizeof sql, "create database %s template %s", name, template);
    test_db_exec(conn, sql);
    if (asprintf(&conninfo, "host=%s port=%s user=%s dbname=%s", PQhost(conn), PQport(conn),
                 PQuser(conn), name) < 0)
        die("conninfo", "out of memory");
    PQfinish(conn);
    return conninfo;
}

char *test_db_drop(char *conninfo)
{
    if (conninfo != NULL) {
        PGconn *conn = test_db_connect(environment("TRUNKLINE_TEST_DB"));
        char sql[256];

        snprintf(sql, sizeof sql, "drop database %s with (force)", strstr(conninfo, "dbname=") + 7);
        test_db_exec(conn, sql);
        PQfinish(conn);
        free(conninfo);
    }
    return NULL;
}
