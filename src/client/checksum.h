/* checksum.h: SHA-256 of texts, as lower-case hex. For src/client/ only. */
#ifndef TL_CLIENT_CHECKSUM_H
#define TL_CLIENT_CHECKSUM_H

#include "embedded_sql.h"

#include <stdbool.h>

#define TL__CHECKSUM_SIZE 65 /* with the NUL */

/* false: libcrypto failed. */
bool tl__checksum(const char *text, size_t len, char ret_hex[TL__CHECKSUM_SIZE]);
/* Over names and texts of several files; a changed border between two files changes it. */
bool tl__checksum_files(const struct tl__sql_file *files, size_t count,
                        char ret_hex[TL__CHECKSUM_SIZE]);

#endif
