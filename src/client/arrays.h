/*
 * arrays.h: one-dimensional PostgreSQL arrays in binary format, written into a buffer: the values never
 * become SQL or JSON text, so nothing in them can change what is asked. For src/client only.
 */
#ifndef TL_CLIENT_ARRAYS_H
#define TL_CLIENT_ARRAYS_H

#include "buf.h"

/* Types of elements. */
#define TL__OID_INT4 23
#define TL__OID_INT8 20
#define TL__OID_TEXT 25
#define TL__OID_TIMESTAMPTZ 1184
#define TL__OID_INTERVAL 1186
#define TL__OID_UUID 2950
#define TL__OID_JSONB 3802

/* An array of n elements; then call one of the others n times. */
void tl__array_begin(struct tl__buf *out, uint32_t element_oid, size_t n);
void tl__array_add_null(struct tl__buf *out);
void tl__array_add_value(struct tl__buf *out, const void *data,
                         size_t len);                           /* as the type's recv */
void tl__array_add_text(struct tl__buf *out, const char *text); /* NULL: NULL */
void tl__array_add_jsonb(struct tl__buf *out, const char *text, size_t len); /* NULL: NULL */
void tl__array_add_i64(struct tl__buf *out, int64_t value);
void tl__array_add_time(struct tl__buf *out, int64_t at_us);   /* 0: NULL */
void tl__array_add_interval(struct tl__buf *out, uint64_t us); /* 0: NULL */

#endif
