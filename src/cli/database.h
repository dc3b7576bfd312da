/*
 * database.h: which database a command works on, and the client for it. Prints errors itself.
 * For src/cli only.
 */
#ifndef TL_CLI_DATABASE_H
#define TL_CLI_DATABASE_H

#include <libpq-fe.h>

#include <trunkline/trunkline.h>

#include "command.h"
#include "embedded.h"

enum tl__db_source { TL__DB_OPTION, TL__DB_ENVIRONMENT, TL__DB_LIBPQ, TL__DB_EMBEDDED };

struct tl__db {
    enum tl__db_source source;
    const char *source_name; /* "--db", "TRUNKLINE_DB", … "embedded" */
    char *conninfo;          /* "": libpq's environment */
    char *shown;             /* the same without secrets, key=value form */
    const char *schema;
    tl__embedded *embedded; /* NULL unless source is TL__DB_EMBEDDED */
    tl_client *client;
};

#define TL__DB_INIT ((struct tl__db){.schema = NULL})

/*
 * Decide on the database and, for the embedded one, attach to it. Opens no client. Returns 0 or an
 * exit code; the error is printed. Call tl__db_close in both cases.
 */
int tl__db_attach(const struct tl__args *args, struct tl__db *ret);
/* tl__db_attach, then a client. On an embedded database the schema is brought up to date; on a
 * configured one a missing schema is an error that names `trunkline migrate`. */
int tl__db_open(const struct tl__args *args, struct tl__db *ret);
/* The same without a look at the schema. */
int tl__db_open_unchecked(const struct tl__args *args, struct tl__db *ret);
/* Migrate (embedded databases and `serve --migrate`): 0 or an exit code. */
int tl__db_migrate(struct tl__db *db);
/* Fits TL_CLEANUP. */
void tl__db_close(struct tl__db *db);

/* Options for more clients of the same kind. Borrows from db and args. */
tl_client_options tl__db_client_options(const struct tl__args *args, const struct tl__db *db);

/*
 * Run one statement on the client's connection: text parameters, text result. `sql` names the
 * schema as @schema@. Returns NULL after it printed the error; *ret_rc is then the exit code.
 */
PGresult *tl__db_query(struct tl__db *db, int *ret_rc, const char *sql, int n,
                       const char *const *values);
void tl__pgclearp(PGresult **result);

#endif
