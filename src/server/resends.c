/*
 * resends.c: see resends.h.
 */
#include "resends.h"

#include <stdlib.h>

struct tl__resends *tl__resends_new(PGresult *rows)
{
    struct tl__resends *r = calloc(1, sizeof *r);

    if (!r) {
        PQclear(rows);
        return NULL;
    }
    r->rows = rows;
    r->refs = 1;
    return r;
}

struct tl__resends *tl__resends_unref(struct tl__resends *r)
{
    if (r && --r->refs == 0) {
        PQclear(r->rows);
        free(r);
    }
    return NULL;
}

const char *tl__resends_text(const struct tl__resends *r, int row, int column)
{
    return PQgetisnull(r->rows, row, column) ? NULL : PQgetvalue(r->rows, row, column);
}

int64_t tl__resends_number(const struct tl__resends *r, int row, int column)
{
    const char *text = tl__resends_text(r, row, column);

    return text ? strtoll(text, NULL, 10) : 0;
}
