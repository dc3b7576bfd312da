/*
 * rows.h: print what a query gives, as a table or as JSON. For src/cli only.
 */
#ifndef TL_CLI_ROWS_H
#define TL_CLI_ROWS_H

#include "database.h"

enum tl__rows_form {
    TL__ROWS_TABLE, /* a table; with --json one object a line */
    TL__ROWS_ONE,   /* one row as "column  value" lines; none is TL_E_NOTFOUND */
};

/* Run the query (see tl__db_query) and print its rows. Returns an exit code. Passwords in targets
 * are masked. */
int tl__rows_print(const struct tl__args *args, struct tl__db *db, enum tl__rows_form form,
                   const char *sql, int n, const char *const *values);

/* The rows as a table under a heading; nothing when there are none. */
int tl__rows_section(struct tl__db *db, const char *heading, const char *sql, int n,
                     const char *const *values);

#endif
