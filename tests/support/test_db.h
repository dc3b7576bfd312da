/*
 * test_db.h: a database of one's own for a C test, made on the throw-away cluster that
 * tools/pg-temp started. For tests only.
 */
#ifndef TL_TEST_DB_H
#define TL_TEST_DB_H

#include <libpq-fe.h>

/*
 * Create a database with a unique name. `from_template` copies the migrated database that
 * tools/run-tests made (TRUNKLINE_TEST_TEMPLATE); otherwise it is empty.
 * Returns its conninfo (the caller frees it); ends the test program when there is no cluster.
 */
char *test_db_create(int from_template);

/* Drop the database behind a conninfo of test_db_create() and free it. Returns NULL. */
char *test_db_drop(char *conninfo);

/* Connect or end the test program. */
PGconn *test_db_connect(const char *conninfo);

/* Run SQL or end the test program with the message; returns the result. */
PGresult *test_db_query(PGconn *conn, const char *sql);

/* Run SQL, ignore its result. */
void test_db_exec(PGconn *conn, const char *sql);

#endif
