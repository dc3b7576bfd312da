/*
 * error.c: the error detail of a handle: setting it, from our own checks or from libpq, and the
 * accessors. Neither payloads nor passwords may get in: see tl__error_from_result.
 */
#include "internal.h"

#include "json_peek.h"
#include "str.h"

#include <stdio.h>
#include <string.h>

void tl__error_clear(struct tl_error *e)
{
    if (e == NULL)
        return;
    e->status = TL_OK;
    e->is_fatal = false;
    e->is_outcome_unknown = false;
    e->index = -1;
    e->expected_version = TL_EXPECT_ANY;
    e->actual_version = -1;
    e->sqlstate[0] = e->message[0] = e->detail[0] = e->hint[0] = '\0';
}

/* Format into a fixed field, cut between two UTF-8 characters. */
static void format_field(char *to, size_t size, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

static void format_field(char *to, size_t size, const char *format, va_list args)
{
    int len = vsnprintf(to, size, format, args);

    if (len < 0) {
        to[0] = '\0';
    } else if ((size_t)len >= size) {
        /* vsnprintf may have cut inside a character: drop the incomplete tail. */
        size_t cut = size - 1;

        while (cut > 0 && !tl__utf8_is_valid(to, cut) && cut > size - 5)
            cut--;
        to[cut] = '\0';
    }
}

tl_status tl__error_set(struct tl_error *e, tl_status status, const char *sqlstate,
                        const char *format, ...)
{
    va_list args;

    if (e == NULL)
        return status;
    tl__error_clear(e);
    e->status = status;
    e->is_fatal = status == TL_E_CLOSED;
    if (sqlstate != NULL)
        tl__str_copy(e->sqlstate, sizeof e->sqlstate, sqlstate);
    va_start(args, format);
    format_field(e->message, sizeof e->message, format, args);
    va_end(args);
    return status;
}

void tl__error_set_hint(struct tl_error *e, const char *format, ...)
{
    va_list args;

    if (e == NULL)
        return;
    va_start(args, format);
    format_field(e->hint, sizeof e->hint, format, args);
    va_end(args);
}

void tl__error_set_detail(struct tl_error *e, const char *detail)
{
    if (e != NULL)
        tl__str_copy(e->detail, sizeof e->detail, detail);
}

tl_status tl__error_nomem(struct tl_error *e)
{
    return tl__error_set(e, TL_E_NOMEM, NULL, "out of memory");
}

tl_status tl__error_blame(struct tl_error *e, const char *of, size_t index)
{
    struct tl_error cause = *e;

    tl__error_set(e, cause.status, cause.sqlstate, "event %zu of the %s: %s", index, of,
                  cause.message);
    tl__error_set_detail(e, cause.detail);
    tl__error_set_hint(e, "%s", cause.hint);
    e->index = (int64_t)index;
    e->expected_version = cause.expected_version;
    e->actual_version = cause.actual_version;
    return e->status;
}

void tl__error_give(const struct tl_error *e, tl_error **ret)
{
    if (ret == NULL)
        return;
    *ret = malloc(sizeof **ret);
    if (*ret != NULL)
        **ret = *e;
}

/* What DETAIL of class TL says in numbers. */
static void take_numbers(struct tl_error *e, const char *detail)
{
    size_t len = strlen(detail);
    const char *value;
    size_t value_len;

    (void)tl__json_member_i64(detail, len, "index", &e->index);
    if (strcmp(e->sqlstate, "TL001") != 0 ||
        !tl__json_member_i64(detail, len, "actual", &e->actual_version) ||
        tl__json_member_i64(detail, len, "expected", &e->expected_version) ||
        !tl__json_member(detail, len, "expected", &value, &value_len))
        return;
    if (value_len == strlen("\"exists\"") && memcmp(value, "\"exists\"", value_len) == 0)
        e->expected_version = TL_EXPECT_EXISTS;
    else if (value_len == strlen("\"no_stream\"") && memcmp(value, "\"no_stream\"", value_len) == 0)
        e->expected_version = TL_EXPECT_NO_STREAM;
}

/* For constraints of the log, which the client does not check or cannot. */
static const char *message_of_constraint(const char *constraint)
{
    static const struct {
        const char *constraint;
        const char *message;
    } list[] = {
        {"event_size", "data is larger than the topic's max_event_bytes"},
        {"event_metadata", "metadata is not a JSON object, or larger than 65536 bytes"},
        {"event_type", "type is not 1 to 255 bytes of dotted segments"},
        {"event_name", "source, key or tenant_id is not 1 to 255 bytes"},
        {"stream_name", "stream is not 1 to 255 bytes without control characters"},
    };

    for (size_t i = 0; constraint != NULL && i < sizeof list / sizeof list[0]; i++) {
        if (strcmp(list[i].constraint, constraint) == 0)
            return list[i].message;
    }
    return NULL;
}

/* For states whose own message repeats the value that was wrong, a message without it. */
static const char *message_without_value(const char *sqlstate)
{
    static const struct {
        const char *sqlstate;
        const char *message;
    } list[] = {
        {"22P02", "a value is not valid for its type"},
        {"22P05", "JSON with \\u0000 cannot be stored"},
        {"22021", "text is not valid UTF-8"},
        {"22030", "JSON object has a duplicate key"},
        {"22001", "a value is too long"},
        {"22007", "a date or time is not valid"},
        {"22003", "a number is out of range"},
        {"22P03", "a value is not valid for its type"},
    };

    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        if (strcmp(list[i].sqlstate, sqlstate) == 0)
            return list[i].message;
    }
    return NULL;
}

/* FATAL and PANIC end the session, whatever the code says: a commit whose flush failed may yet be recovered. */
static bool ends_session(const PGresult *res)
{
    const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);

    return severity != NULL && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0);
}

tl_status tl__error_from_result(struct tl_error *e, const PGresult *res, bool is_outcome_unknown)
{
    const char *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL);
    const char *hint = PQresultErrorField(res, PG_DIAG_MESSAGE_HINT);
    const char *constraint = PQresultErrorField(res, PG_DIAG_CONSTRAINT_NAME);
    tl_status status;

    if (sqlstate == NULL) {
        /* libpq made this result itself: no answer came. Its message names no values. */
        message = PQresultErrorMessage(res);
        tl__error_set(e, TL_E_CONNECTION, NULL, "connection lost: %.*s",
                      (int)strcspn(message, "\n"), message);
        if (e != NULL)
            e->is_outcome_unknown = is_outcome_unknown;
        return TL_E_CONNECTION;
    }
    status = ends_session(res) ? TL_E_CONNECTION : tl__status_from_sqlstate(sqlstate, constraint);
    if (e == NULL)
        return status;
    if (message_without_value(sqlstate) != NULL)
        message = message_without_value(sqlstate);
    else if (message_of_constraint(constraint) != NULL)
        message = message_of_constraint(constraint);
    tl__error_set(e, status, sqlstate, "%s", message != NULL ? message : "error without a message");
    if (detail != NULL && strncmp(sqlstate, "TL", 2) == 0) {
        tl__error_set_detail(e, detail);
        take_numbers(e, detail);
    }
    if (hint != NULL)
        tl__error_set_hint(e, "%s", hint);
    if (status == TL_E_SCHEMA && strncmp(sqlstate, "TL", 2) != 0)
        tl__error_set_hint(e, "run \"trunkline migrate\"");
    if (status == TL_E_CONNECTION)
        e->is_outcome_unknown = is_outcome_unknown;
    return status;
}

tl_status tl__error_from_conn(struct tl_error *e, const PGconn *conn, bool is_outcome_unknown)
{
    const char *message = conn != NULL ? PQerrorMessage(conn) : "out of memory";
    size_t first = strcspn(message, "\n");
    const char *rest = message + first;

    if (e == NULL)
        return TL_E_CONNECTION;
    tl__error_set(e, TL_E_CONNECTION, NULL, "%s%.*s", first == 0 ? "connection lost" : "",
                  (int)first, message);
    /* libpq's further lines ("Is the server running...") are a hint. */
    rest += strspn(rest, "\n\t ");
    if (rest[0] != '\0')
        tl__error_set_hint(e, "%.*s", (int)strcspn(rest, "\n"), rest);
    e->is_outcome_unknown = is_outcome_unknown;
    return TL_E_CONNECTION;
}

/* ------------------------------------------------------------------------------- accessors -- */

tl_status tl_error_status(const tl_error *e)
{
    return e == NULL ? TL_OK : e->status;
}

const char *tl_error_message(const tl_error *e)
{
    return e == NULL ? "" : e->message;
}

const char *tl_error_detail(const tl_error *e)
{
    return e == NULL ? "" : e->detail;
}

const char *tl_error_hint(const tl_error *e)
{
    return e == NULL ? "" : e->hint;
}

const char *tl_error_sqlstate(const tl_error *e)
{
    return e == NULL ? "" : e->sqlstate;
}

bool tl_error_is_retriable(const tl_error *e)
{
    static const char *const states[] = {"40001", "40P01", "53100", "53200",
                                         "53300", "53400", "55P03", "55006"};

    if (e == NULL || e->is_fatal)
        return false;
    if (e->status == TL_E_CONNECTION || e->status == TL_E_TIMEOUT || e->status == TL_E_NOMEM)
        return true;
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        if (strcmp(states[i], e->sqlstate) == 0)
            return true;
    }
    return false;
}

bool tl_error_is_fatal(const tl_error *e)
{
    return e != NULL && e->is_fatal;
}

bool tl_error_outcome_unknown(const tl_error *e)
{
    return e != NULL && e->is_outcome_unknown;
}

int64_t tl_error_index(const tl_error *e)
{
    return e == NULL ? -1 : e->index;
}

int64_t tl_error_expected_version(const tl_error *e)
{
    return e == NULL ? TL_EXPECT_ANY : e->expected_version;
}

int64_t tl_error_actual_version(const tl_error *e)
{
    return e == NULL ? -1 : e->actual_version;
}

tl_error *tl_error_free(tl_error *e)
{
    free(e);
    return NULL;
}

void tl_free(void *p)
{
    free(p);
}
