/*
 * sqlnames.c: names of schemas and topics, SQL templates, statements and their parameters, cells
 * of a result. Values never become SQL text: only checked names do, by one quoting function.
 */
#include "checksum.h"
#include "internal.h"

#include <string.h>

#define PG_EPOCH_US 946684800000000LL /* 2000-01-01, where PostgreSQL counts from */

/* --------------------------------------------------------------------------------- names -- */

static bool is_name(const char *name, bool has_upper_and_hyphen)
{
    size_t len = strlen(name);

    if (len < 1 || len > TL_MAX_TOPIC_BYTES)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool is_letter =
            (c >= 'a' && c <= 'z') || c == '_' || (has_upper_and_hyphen && c >= 'A' && c <= 'Z');
        bool is_later = (c >= '0' && c <= '9') || (has_upper_and_hyphen && c == '-');

        if (!is_letter && (i == 0 || !is_later))
            return false;
    }
    return true;
}

tl_status tl__schema_check(struct tl_error *e, const char *schema)
{
    if (is_name(schema, true))
        return TL_OK;
    tl__error_set(e, TL_E_INVALID, NULL, "schema name is not valid");
    tl__error_set_hint(e, "1 to %d of A-Z a-z 0-9 _ -, the first a letter or _",
                       TL_MAX_TOPIC_BYTES);
    if (e != NULL)
        e->is_fatal = true;
    return TL_E_INVALID;
}

tl_status tl__topic_check(struct tl_error *e, const char *topic)
{
    if (is_name(topic, false))
        return TL_OK;
    tl__error_set(e, TL_E_INVALID, NULL, "topic name is not valid");
    tl__error_set_hint(e, "1 to %d of a-z 0-9 _, the first a letter or _", TL_MAX_TOPIC_BYTES);
    return TL_E_INVALID;
}

void tl__quote_name(struct tl__buf *out, const char *name)
{
    tl__buf_add_char(out, '"');
    for (; *name != '\0'; name++) {
        if (*name == '"')
            tl__buf_add_char(out, '"');
        tl__buf_add_char(out, *name);
    }
    tl__buf_add_char(out, '"');
}

void tl__sql_expand(struct tl__buf *out, const char *schema_quoted, const char *topic,
                    const char *template_text, size_t len)
{
    static const char schema_token[] = "@extschema@";
    static const char topic_token[] = "@topic@";
    const char *p = template_text;
    const char *end = p + len;

    while (p < end) {
        const char *at = memchr(p, '@', (size_t)(end - p));

        if (at == NULL)
            at = end;
        tl__buf_add(out, p, (size_t)(at - p));
        p = at;
        if (p == end)
            break;
        if ((size_t)(end - p) >= strlen(schema_token) &&
            memcmp(p, schema_token, strlen(schema_token)) == 0) {
            tl__buf_add_str(out, schema_quoted);
            p += strlen(schema_token);
        } else if (topic != NULL && (size_t)(end - p) >= strlen(topic_token) &&
                   memcmp(p, topic_token, strlen(topic_token)) == 0) {
            tl__buf_add_str(out, topic);
            p += strlen(topic_token);
        } else {
            tl__buf_add_char(out, *p++);
        }
    }
}

/* ---------------------------------------------------------------------------- statements -- */

tl_status tl__statement_init(struct tl__statement *st, struct tl_error *e,
                             const char *schema_quoted, const char *topic,
                             const char *template_text)
{
    TL_CLEANUP(tl__buf_done)
    struct tl__buf sql = TL_BUF_INIT;
    char digest[TL__CHECKSUM_SIZE];

    tl__sql_expand(&sql, schema_quoted, topic, template_text, strlen(template_text));
    if (sql.is_failed || !tl__checksum(sql.data, sql.len, digest))
        return tl__error_nomem(e);
    *st = (struct tl__statement){.name = "tl_"};
    memcpy(st->name + 3, digest, 32);
    st->sql = tl__buf_take(&sql, NULL);
    return st->sql != NULL ? TL_OK : tl__error_nomem(e);
}

void tl__statement_done(struct tl__statement *st)
{
    free(st->sql);
    *st = (struct tl__statement){.sql = NULL};
}

/* ---------------------------------------------------------------------------- parameters -- */

static void add_param(struct tl__params *p, const char *value, size_t len)
{
    p->values[p->n] = value;
    p->lengths[p->n] = (int)len;
    p->formats[p->n] = 1;
    p->n++;
}

void tl__param_text(struct tl__params *p, const char *text)
{
    add_param(p, text, text != NULL ? strlen(text) : 0);
}

void tl__param_bytes(struct tl__params *p, const void *data, size_t len)
{
    add_param(p, data, len);
}

void tl__param_null(struct tl__params *p)
{
    add_param(p, NULL, 0);
}

void tl__param_i64(struct tl__params *p, int64_t value)
{
    tl__put_u64(p->scratch[p->n], (uint64_t)value);
    add_param(p, p->scratch[p->n], 8);
}

void tl__param_i32(struct tl__params *p, int32_t value)
{
    tl__put_u32(p->scratch[p->n], (uint32_t)value);
    add_param(p, p->scratch[p->n], 4);
}

void tl__param_f64(struct tl__params *p, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    tl__param_i64(p, (int64_t)bits);
}

void tl__param_bool(struct tl__params *p, bool value)
{
    p->scratch[p->n][0] = value;
    add_param(p, p->scratch[p->n], 1);
}

void tl__param_uuid(struct tl__params *p, const uint8_t bytes[16])
{
    memcpy(p->scratch[p->n], bytes, 16);
    add_param(p, p->scratch[p->n], 16);
}

void tl__param_time(struct tl__params *p, int64_t at_us)
{
    if (at_us == 0)
        tl__param_null(p);
    else
        tl__param_i64(p, tl__time_to_pg(at_us));
}

void tl__param_interval(struct tl__params *p, uint64_t us)
{
    if (us == 0) {
        tl__param_null(p);
        return;
    }
    /* microseconds, days, months */
    memset(p->scratch[p->n], 0, 16);
    tl__put_u64(p->scratch[p->n], us > INT64_MAX ? INT64_MAX : us);
    add_param(p, p->scratch[p->n], 16);
}

int64_t tl__time_to_pg(int64_t at_us)
{
    return at_us < INT64_MIN + PG_EPOCH_US ? INT64_MIN : at_us - PG_EPOCH_US;
}

/* --------------------------------------------------------------------------------- cells -- */

const char *tl__cell_text(const PGresult *res, int row, int col)
{
    return PQgetisnull(res, row, col) ? NULL : PQgetvalue(res, row, col);
}

int64_t tl__cell_i64(const PGresult *res, int row, int col)
{
    const char *value = PQgetvalue(res, row, col);

    if (PQgetisnull(res, row, col))
        return 0;
    switch (PQgetlength(res, row, col)) {
    case 8:
        return (int64_t)tl__get_u64(value);
    case 4:
        return (int32_t)tl__get_u32(value);
    case 2:
        return (int16_t)((uint16_t)(unsigned char)value[0] << 8 | (unsigned char)value[1]);
    default:
        return 0;
    }
}

bool tl__cell_bool(const PGresult *res, int row, int col)
{
    return !PQgetisnull(res, row, col) && PQgetvalue(res, row, col)[0] != 0;
}

uint64_t tl__cell_interval(const PGresult *res, int row, int col)
{
    const char *value = PQgetvalue(res, row, col);
    int64_t days, us;

    if (PQgetisnull(res, row, col) || PQgetlength(res, row, col) != 16)
        return 0;
    days = (int32_t)tl__get_u32(value + 8) + (int64_t)(int32_t)tl__get_u32(value + 12) * 30;
    if (__builtin_mul_overflow(days, (int64_t)86400000000, &us) ||
        __builtin_add_overflow(us, (int64_t)tl__get_u64(value), &us))
        return days > 0 ? INT64_MAX : 0;
    return us > 0 ? (uint64_t)us : 0;
}

int64_t tl__cell_time(const PGresult *res, int row, int col)
{
    int64_t value;

    if (PQgetisnull(res, row, col))
        return 0;
    value = tl__cell_i64(res, row, col);
    /* 'infinity' is the largest number; it stays so */
    return value > INT64_MAX - PG_EPOCH_US ? INT64_MAX : value + PG_EPOCH_US;
}

bool tl__cell_uuid(const PGresult *res, int row, int col, char ret_text[TL_UUID_TEXT_SIZE])
{
    if (PQgetisnull(res, row, col) || PQgetlength(res, row, col) != 16)
        return false;
    tl__uuid_format((const uint8_t *)PQgetvalue(res, row, col), ret_text);
    return true;
}
