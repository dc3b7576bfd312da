/*
 * json_scan.h: find the members of one JSON object without touching their values, so that a payload
 * goes to the server byte for byte. Not a validator: it checks only as much structure as it needs;
 * PostgreSQL checks the rest. For src/cli only.
 */
#ifndef TL_CLI_JSON_SCAN_H
#define TL_CLI_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>

struct tl__json_member {
    const char *name; /* raw text between the quotes; no name that we know needs an escape */
    size_t name_len;
    const char *value;
    size_t value_len;
};

struct tl__json_scan {
    const char *at, *end;
    const char *problem; /* static text once it has failed */
    bool is_inside, is_after_member;
};

void tl__json_scan_start(struct tl__json_scan *scan, const char *text, size_t len);
/* Next member; false at the end of the object or when scan->problem is set. */
bool tl__json_scan_next(struct tl__json_scan *scan, struct tl__json_member *ret);

/* Decode a JSON string with its quotes. NULL: not a string, bad escape, or U+0000; free(3). */
char *tl__json_string_dup(const char *value, size_t len);

#endif
