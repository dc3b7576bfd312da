/* buf.c: see buf.h. */
#include "buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "str.h"

void tl__buf_done(struct tl__buf *b)
{
    free(b->data);
    *b = TL_BUF_INIT;
}

void tl__buf_clear(struct tl__buf *b)
{
    b->len = 0;
    b->is_failed = false;
    if (b->data != NULL)
        b->data[0] = '\0';
}

bool tl__buf_reserve(struct tl__buf *b, size_t n)
{
    size_t cap = b->cap < 64 ? 64 : b->cap;
    char *data;

    if (b->is_failed)
        return false;
    if (n >= SIZE_MAX / 2 - b->len) {
        b->is_failed = true;
        return false;
    }
    if (b->data != NULL && b->len + n + 1 <= b->cap)
        return true;
    while (cap < b->len + n + 1)
        cap *= 2;
    data = realloc(b->data, cap);
    if (data == NULL) {
        b->is_failed = true;
        return false;
    }
    data[b->len] = '\0';
    b->data = data;
    b->cap = cap;
    return true;
}

void tl__buf_add(struct tl__buf *b, const void *data, size_t len)
{
    if (!tl__buf_reserve(b, len))
        return;
    if (len > 0)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void tl__buf_add_str(struct tl__buf *b, const char *text)
{
    tl__buf_add(b, text, strlen(text));
}

void tl__buf_add_char(struct tl__buf *b, char c)
{
    if ((b->is_failed || b->len + 1 >= b->cap) && !tl__buf_reserve(b, 1))
        return;
    b->data[b->len++] = c;
    b->data[b->len] = '\0';
}

void tl__buf_add_i64(struct tl__buf *b, int64_t value)
{
    char text[TL_I64_TEXT_SIZE];

    tl__buf_add(b, text, tl__i64_format(value, text));
}

void tl__buf_addf(struct tl__buf *b, const char *format, ...)
{
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len < 0 || !tl__buf_reserve(b, (size_t)len)) {
        b->is_failed = true;
        return;
    }
    va_start(args, format);
    (void)vsnprintf(b->data + b->len, (size_t)len + 1, format, args);
    va_end(args);
    b->len += (size_t)len;
}

void tl__buf_put_u32(struct tl__buf *b, uint32_t value)
{
    char bytes[4];

    tl__put_u32(bytes, value);
    tl__buf_add(b, bytes, sizeof bytes);
}

void tl__buf_put_u64(struct tl__buf *b, uint64_t value)
{
    char bytes[8];

    tl__put_u64(bytes, value);
    tl__buf_add(b, bytes, sizeof bytes);
}

char *tl__buf_take(struct tl__buf *b, size_t *ret_len)
{
    char *data = NULL;

    if (tl__buf_reserve(b, 0)) {
        data = b->data;
        if (ret_len != NULL)
            *ret_len = b->len;
        *b = TL_BUF_INIT;
    }
    tl__buf_done(b);
    return data;
}
