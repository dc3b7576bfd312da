/*
 * migrate.h: what the migration files share: our migrations, and what a database has of them. For
 * migrate*.c only.
 */
#ifndef TL_CLIENT_MIGRATE_H
#define TL_CLIENT_MIGRATE_H

#include "checksum.h"
#include "internal.h"

struct tl__migration {
    const struct tl__sql_file *file;
    int number;    /* 1 of "0001_log.sql" */
    char name[64]; /* "0001_log" */
    char checksum[TL__CHECKSUM_SIZE];
};

/* Ours, by index; false: libcrypto failed. */
bool tl__migration_get(size_t i, struct tl__migration *ret);
/* Number of our last one. */
int tl__migration_last(void);
bool tl__functions_checksum(char ret_hex[TL__CHECKSUM_SIZE]);

/* What a database has. */
struct tl__inspection {
    tl_migrate_state state;
    int missing;              /* number of our first migration that it lacks; 0: none */
    int last;                 /* number of its last one */
    int blamed;               /* migration that is tampered with or unknown to us; 0: none */
    bool has_our_functions;   /* else they were never applied or have another text */
    char library_version[32]; /* of the library that applied the functions; "" none did */
};
/* Read the two tables; within a call. fn may be NULL. */
tl_status tl__migrate_inspect(tl_client *c, tl_migrate_fn fn, void *userdata,
                              struct tl__inspection *ret);
/* Were functions changed by hand since they were applied? In an open transaction. */
tl_status tl__migrate_is_altered(tl_client *c, bool *ret);
/* End a failed transaction; the error stays. */
void tl__migrate_roll_back(tl_client *c);
/* The error for a state that is not current: TL_E_SCHEMA, says which side is older. */
tl_status tl__migrate_refuse(tl_client *c, const struct tl__inspection *found);

/* Text of the steps, also for the printed script. Templates. */
extern const char tl__migrate_settings[];  /* for the transaction of each step */
extern const char tl__migrate_lock[];      /* one at a time */
extern const char tl__migrate_bootstrap[]; /* the two tables */
void tl__migrate_add_record(struct tl__buf *sql, const struct tl__migration *m);
void tl__migrate_add_installed(struct tl__buf *sql, const char *functions_checksum);
/* Digest of the functions that are there, as an expression; search_path must be as settings has. */
extern const char tl__migrate_live_digest[];

#endif
