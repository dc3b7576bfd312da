/* The schema as text inside the library: the files of sql/, byte for byte, sorted by name.
 * Made by tools/embed at build; used by migrate only. */
#ifndef TL_EMBEDDED_SQL_H
#define TL_EMBEDDED_SQL_H

#include <stddef.h>

struct tl__sql_file {
    const char *name; /* file name without folder: 0001_init.sql */
    const char *text; /* NUL-ended */
    size_t length;    /* bytes, without that NUL */
};

extern const struct tl__sql_file tl__sql_migrations[];
extern const size_t tl__sql_migrations_count;
extern const struct tl__sql_file tl__sql_functions[];
extern const size_t tl__sql_functions_count;

#endif
