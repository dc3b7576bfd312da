/*
 * buf.h: a growing byte buffer. Not a string class: it knows bytes, numbers in network order and
 * printf. Running out of memory is sticky (is_failed) and is checked once, at the end.
 * Any folder may use it.
 */
#ifndef TL_BUF_H
#define TL_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tl__buf {
    char *data; /* NUL stands at data[len] whenever data is not NULL */
    size_t len;
    size_t cap;
    bool is_failed; /* out of memory: the content is incomplete, later appends do nothing */
};

#define TL_BUF_INIT ((struct tl__buf){0})

/* Frees; the buffer is as after TL_BUF_INIT. Fits TL_CLEANUP. */
void tl__buf_done(struct tl__buf *b);
/* Empties and keeps the memory. */
void tl__buf_clear(struct tl__buf *b);
/* Makes room for n more bytes; false when there is no memory. */
bool tl__buf_reserve(struct tl__buf *b, size_t n);
void tl__buf_add(struct tl__buf *b, const void *data, size_t len);
void tl__buf_add_str(struct tl__buf *b, const char *text);
void tl__buf_add_char(struct tl__buf *b, char c);
void tl__buf_add_i64(struct tl__buf *b, int64_t value); /* decimal text */
void tl__buf_addf(struct tl__buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Numbers in network byte order. */
void tl__buf_put_u32(struct tl__buf *b, uint32_t value);
void tl__buf_put_u64(struct tl__buf *b, uint64_t value);
/* Hands the memory to the caller (free(3)), NUL-ended; NULL when is_failed. The buffer is empty
 * after it. ret_len may be NULL. */
char *tl__buf_take(struct tl__buf *b, size_t *ret_len);

/* Numbers in network byte order, unaligned. */
static inline void tl__put_u32(void *to, uint32_t v)
{
    unsigned char *p = (unsigned char *)to;

    p[0] = (unsigned char)(v >> 24);
    p[1] = (unsigned char)(v >> 16);
    p[2] = (unsigned char)(v >> 8);
    p[3] = (unsigned char)v;
}

static inline void tl__put_u64(void *to, uint64_t v)
{
    tl__put_u32(to, (uint32_t)(v >> 32));
    tl__put_u32((char *)to + 4, (uint32_t)v);
}

static inline uint32_t tl__get_u32(const void *from)
{
    const unsigned char *p = (const unsigned char *)from;

    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

static inline uint64_t tl__get_u64(const void *from)
{
    return (uint64_t)tl__get_u32(from) << 32 | tl__get_u32((const char *)from + 4);
}

#endif
