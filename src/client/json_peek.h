/*
 * json_peek.h: look up one member of a JSON object that PostgreSQL wrote: the DETAIL of our own errors,
 * schema_version and redacted in an event's metadata. No parser of payloads, which stay opaque bytes;
 * of text that is no valid JSON it finds something or nothing, and never reads past the end.
 * For src/client only.
 */
#ifndef TL_CLIENT_JSON_PEEK_H
#define TL_CLIENT_JSON_PEEK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The value of a member of the outermost object, as it stands there; name has no character that JSON
 * escapes. false: there is none. */
bool tl__json_member(const char *text, size_t len, const char *name, const char **ret_value,
                     size_t *ret_len);
/* The same for a whole number; false when it is anything else. */
bool tl__json_member_i64(const char *text, size_t len, const char *name, int64_t *ret);

#endif
