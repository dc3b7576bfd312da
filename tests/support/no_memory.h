/*
 * no_memory.h: the first, the second, the third... allocation fails, one run each, until a run needs no
 * more. The build wraps malloc and its kin (failing_malloc in meson.build); libpq and OpenSSL are shared
 * libraries and keep theirs. Included by one file of a program.
 */
#ifndef TL_NO_MEMORY_H
#define TL_NO_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

static int64_t countdown = -1; /* allocations until one fails; < 0: none does */

static bool is_my_turn(void)
{
    return countdown >= 0 && countdown-- == 0;
}

static inline void fail_allocation(int64_t n)
{
    countdown = n;
}

/* From now on none fails. Did one? */
static inline bool end_of_failing(void)
{
    bool has_failed = countdown < 0;

    countdown = -1;
    return has_failed;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t n);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t n);

void *__wrap_malloc(size_t size)
{
    return is_my_turn() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return is_my_turn() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return is_my_turn() ? NULL : __real_realloc(p, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
    return is_my_turn() ? NULL : __real_reallocarray(p, n, size);
}

char *__wrap_strdup(const char *text)
{
    return is_my_turn() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t n)
{
    return is_my_turn() ? NULL : __real_strndup(text, n);
}

#endif
