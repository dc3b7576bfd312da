/*
 * fuzz.h: what the fuzz targets share. A target is one function that is given any bytes; replay.c or
 * libFuzzer calls it. For tests/fuzz only.
 */
#ifndef TL_FUZZ_H
#define TL_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not assert(): that is gone in a release build. */
#define fuzz_check(what)                                                                           \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #what);              \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct fuzz_input {
    const uint8_t *at, *end;
};

/* A copy of its own, NUL-ended, so that a sanitizer sees the first byte read behind it. */
static inline char *fuzz_copy(const void *data, size_t len)
{
    char *text = calloc(len + 1, 1);

    if (text == NULL)
        abort();
    if (len > 0)
        memcpy(text, data, len);
    return text;
}

/* The next line as text, up to a NUL in it; "" when there is none. free(3). */
static inline char *fuzz_line(struct fuzz_input *in)
{
    size_t left = (size_t)(in->end - in->at);
    const uint8_t *newline = left == 0 ? NULL : memchr(in->at, '\n', left);
    const uint8_t *start = in->at;
    size_t len = newline == NULL ? left : (size_t)(newline - in->at);

    in->at += len + (newline != NULL);
    return fuzz_copy(start, strnlen((const char *)start, len));
}

/* What is left, NULs and all. free(3). */
static inline char *fuzz_rest(struct fuzz_input *in, size_t *ret_len)
{
    const uint8_t *start = in->at;

    *ret_len = (size_t)(in->end - in->at);
    in->at = in->end;
    return fuzz_copy(start, *ret_len);
}

/* The same in exactly its bytes, without a NUL behind them. */
static inline char *fuzz_exact(struct fuzz_input *in, size_t *ret_len)
{
    char *text;

    *ret_len = (size_t)(in->end - in->at);
    text = calloc(*ret_len > 0 ? *ret_len : 1, 1);
    if (text == NULL)
        abort();
    if (*ret_len > 0)
        memcpy(text, in->at, *ret_len);
    in->at = in->end;
    return text;
}

#endif
