/*
 * str.h: the few string helpers that libc lacks: copies and cuts that never split a UTF-8
 * character, and numbers as text without printf. Any folder may use it.
 */
#ifndef TL_STR_H
#define TL_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The longest length <= limit at which text (len bytes) can be cut between two characters. */
size_t tl__utf8_cut(const char *text, size_t len, size_t limit);
/* Is it well-formed UTF-8 (no overlong forms, no surrogates, at most U+10FFFF)? */
bool tl__utf8_is_valid(const char *text, size_t len);
/* Put '?' in place of every byte that is not part of well-formed UTF-8. */
void tl__utf8_clean(char *text);
/* Copy into a buffer of `size` bytes, cut between characters, always NUL-ended. */
void tl__str_copy(char *to, size_t size, const char *from);
/* Decimal, NUL-ended; returns its length. */
#define TL_I64_TEXT_SIZE 21
size_t tl__i64_format(int64_t value, char ret_text[TL_I64_TEXT_SIZE]);
/* Equal, or both NULL. */
bool tl__str_equal(const char *a, const char *b);

#endif
