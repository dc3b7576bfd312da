/* arrays.c: one-dimensional arrays in PostgreSQL's binary format. */
#include "arrays.h"

#include "internal.h"

#include <string.h>

void tl__array_begin(struct tl__buf *out, uint32_t element_oid, size_t n)
{
    tl__buf_put_u32(out, 1); /* dimensions */
    tl__buf_put_u32(out, 1); /* may have NULLs */
    tl__buf_put_u32(out, element_oid);
    tl__buf_put_u32(out, (uint32_t)n);
    tl__buf_put_u32(out, 1); /* lower bound */
}

void tl__array_add_null(struct tl__buf *out)
{
    tl__buf_put_u32(out, UINT32_MAX); /* length -1 */
}

void tl__array_add_value(struct tl__buf *out, const void *data, size_t len)
{
    tl__buf_put_u32(out, (uint32_t)len);
    tl__buf_add(out, data, len);
}

void tl__array_add_text(struct tl__buf *out, const char *text)
{
    if (text == NULL)
        tl__array_add_null(out);
    else
        tl__array_add_value(out, text, strlen(text));
}

void tl__array_add_jsonb(struct tl__buf *out, const char *text, size_t len)
{
    if (text == NULL) {
        tl__array_add_null(out);
        return;
    }
    tl__buf_put_u32(out, (uint32_t)(len + 1));
    tl__buf_add_char(out, '\1'); /* version */
    tl__buf_add(out, text, len);
}

void tl__array_add_i64(struct tl__buf *out, int64_t value)
{
    tl__buf_put_u32(out, 8);
    tl__buf_put_u64(out, (uint64_t)value);
}

void tl__array_add_time(struct tl__buf *out, int64_t at_us)
{
    if (at_us == 0)
        tl__array_add_null(out);
    else
        tl__array_add_i64(out, tl__time_to_pg(at_us));
}

void tl__array_add_interval(struct tl__buf *out, uint64_t us)
{
    if (us == 0) {
        tl__array_add_null(out);
        return;
    }
    tl__buf_put_u32(out, 16);
    tl__buf_put_u64(out, us);
    tl__buf_put_u64(out, 0); /* days, months */
}
