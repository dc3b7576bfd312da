/*
 * json.h: writes JSON into a buffer. It reads none: payloads are opaque bytes here and PostgreSQL
 * validates them. Any folder may use it.
 */
#ifndef TL_JSON_H
#define TL_JSON_H

#include "buf.h"

/* A JSON string with its quotes; bytes of 0x20 and above pass as they are (UTF-8). */
void tl__json_add_string(struct tl__buf *b, const char *text, size_t len);
/* The same for NUL-ended text; NULL writes null. */
void tl__json_add_text(struct tl__buf *b, const char *text);
/* `"name":` with a comma in front unless an object or array was just opened. */
void tl__json_add_name(struct tl__buf *b, const char *name);

#endif
