/*
 * uuid.h: uuid text and bytes. It makes none. Any folder may use it.
 */
#ifndef TL_UUID_H
#define TL_UUID_H

#include <stdbool.h>
#include <stdint.h>

#define TL_UUID_TEXT_SIZE 37 /* with the NUL */

/* Reads the form 8-4-4-4-12, either case; false for anything else. */
bool tl__uuid_parse(const char *text, uint8_t ret_bytes[16]);
/* Writes the same form in lower case. */
void tl__uuid_format(const uint8_t bytes[16], char ret_text[TL_UUID_TEXT_SIZE]);

#endif
