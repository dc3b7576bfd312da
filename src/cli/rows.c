/*
 * rows.c: see rows.h.
 */
#include "rows.h"

#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "cleanup.h"
#include "json.h"
#include "out.h"

enum {
    OID_BOOL = 16,
    OID_INT8 = 20,
    OID_INT2 = 21,
    OID_INT4 = 23,
    OID_JSON = 114,
    OID_JSONB = 3802
};

/* A URL's user:password@ as ****@; other text as it is. The caller frees it. */
static char *mask_url(const char *text)
{
    const char *host = strstr(text, "://");
    struct tl__buf out = TL_BUF_INIT;
    const char *at = NULL;

    if (host)
        for (const char *p = host + 3; *p && !strchr("/?#", *p); p++)
            if (*p == '@')
                at = p;
    if (at) {
        tl__buf_add(&out, text, (size_t)(host + 3 - text));
        tl__buf_add_str(&out, "****");
        text = at;
    }
    tl__buf_add_str(&out, text);
    return tl__buf_take(&out, NULL);
}

static void add_json_value(struct tl__buf *out, const PGresult *rows, int row, int column)
{
    const char *value = PQgetvalue(rows, row, column);

    if (PQgetisnull(rows, row, column)) {
        tl__buf_add_str(out, "null");
        return;
    }
    switch (PQftype(rows, column)) {
    case OID_BOOL:
        tl__buf_add_str(out, *value == 't' ? "true" : "false");
        break;
    case OID_INT2:
    case OID_INT4:
    case OID_INT8:
    case OID_JSON:
    case OID_JSONB:
        tl__buf_add_str(out, value);
        break;
    default: {
        TL_CLEANUP(tl__freep)
        char *masked = mask_url(value);
        tl__json_add_text(out, masked);
    }
    }
}

static int print_json(const PGresult *rows)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf out = TL_BUF_INIT;

    for (int row = 0; row < PQntuples(rows); row++) {
        tl__buf_add_char(&out, '{');
        for (int column = 0; column < PQnfields(rows); column++) {
            tl__json_add_name(&out, PQfname(rows, column));
            add_json_value(&out, rows, row, column);
        }
        tl__buf_add_str(&out, "}\n");
    }
    if (out.is_failed)
        return tl__fail(TL_E_NOMEM, NULL, "out of memory");
    fwrite(out.data ? out.data : "", 1, out.len, stdout);
    return 0;
}

static void add_cell(const PGresult *rows, int row, int column, char **ret)
{
    const char *value = PQgetvalue(rows, row, column);

    *ret = NULL;
    if (PQgetisnull(rows, row, column))
        return;
    if (PQftype(rows, column) == OID_BOOL)
        value = *value == 't' ? "yes" : "no";
    *ret = mask_url(value);
}

static void print_table(const PGresult *rows)
{
    int columns = PQnfields(rows);
    const char *cells[64];

    for (int i = 0; i < columns; i++)
        cells[i] = PQfname(rows, i);
    struct tl__table *table = tl__table_new(columns, cells);
    for (int row = 0; row < PQntuples(rows); row++) {
        char *values[64];
        for (int i = 0; i < columns; i++)
            add_cell(rows, row, i, &values[i]);
        tl__table_add(table, (const char *const *)values);
        for (int i = 0; i < columns; i++)
            free(values[i]);
    }
    tl__table_print(table, stdout);
    tl__table_free(table);
}

static void print_one(const PGresult *rows)
{
    size_t width = 0;

    for (int i = 0; i < PQnfields(rows); i++)
        width = strlen(PQfname(rows, i)) > width ? strlen(PQfname(rows, i)) : width;
    for (int i = 0; i < PQnfields(rows); i++) {
        char *value;
        add_cell(rows, 0, i, &value);
        printf("%-*s  ", (int)width, PQfname(rows, i));
        tl__print_plain(stdout, value ? value : "-", SIZE_MAX);
        putchar('\n');
        free(value);
    }
}

int tl__rows_print(const struct tl__args *args, struct tl__db *db, enum tl__rows_form form,
                   const char *sql, int n, const char *const *values)
{
    int rc = 0;
    TL_CLEANUP(tl__pgclearp)
    PGresult *rows = tl__db_query(db, &rc, sql, n, values);

    if (!rows)
        return rc;
    if (form == TL__ROWS_ONE && PQntuples(rows) == 0)
        return tl__fail(TL_E_NOTFOUND, NULL, "there is no \"%s\"", n > 0 ? values[0] : "");
    if (PQnfields(rows) > 64)
        return tl__fail(TL_E_LIMIT, NULL, "too many columns");
    if (tl__args_has(args, "json"))
        return print_json(rows);
    if (form == TL__ROWS_ONE)
        print_one(rows);
    else
        print_table(rows);
    return 0;
}

int tl__rows_section(struct tl__db *db, const char *heading, const char *sql, int n,
                     const char *const *values)
{
    int rc = 0;
    TL_CLEANUP(tl__pgclearp)
    PGresult *rows = tl__db_query(db, &rc, sql, n, values);

    if (!rows)
        return rc;
    if (PQntuples(rows) > 0) {
        printf("\n%s\n", heading);
        print_table(rows);
    }
    return 0;
}
