/*
 * status.c: the table of status codes as functions, and the way from an SQLSTATE to a status.
 * Not the error detail of a handle: error.c.
 */
#include "internal.h"

#include <string.h>
#include <trunkline/trunkline_version.h>

const char *tl_status_name(tl_status status)
{
    switch (status) {
#define NAME_CASE(name, value, sqlstate, http, exit_code, text)                                    \
    case name:                                                                                     \
        return #name;
        TL_STATUS_MAP(NAME_CASE)
#undef NAME_CASE
    }
    return "TL_E_?";
}

const char *tl_status_text(tl_status status)
{
    switch (status) {
#define TEXT_CASE(name, value, sqlstate, http, exit_code, text)                                    \
    case name:                                                                                     \
        return text;
        TL_STATUS_MAP(TEXT_CASE)
#undef TEXT_CASE
    }
    return "unknown status";
}

int tl_status_exit_code(tl_status status)
{
    switch (status) {
#define EXIT_CASE(name, value, sqlstate, http, exit_code, text)                                    \
    case name:                                                                                     \
        return exit_code;
        TL_STATUS_MAP(EXIT_CASE)
#undef EXIT_CASE
    }
    return 1;
}

const char *tl_version(void)
{
    return TL_VERSION;
}

/* Exact states first, then whole classes (two characters). */
static const struct {
    const char *sqlstate;
    tl_status status;
} map[] = {
    {"TL001", TL_E_CONFLICT},
    {"TL002", TL_E_NOTFOUND},
    {"TL003", TL_E_CONFLICT}, /* same id, other content */
    {"TL004", TL_E_FENCED},
    {"TL005", TL_E_INVALID},
    {"TL006", TL_E_SCHEMA},
    {"TL007", TL_E_LIMIT},
    {"TL008", TL_E_REJECTED},
    {"02000", TL_NOTHING},
    {"23505", TL_E_CONFLICT},    /* unique */
    {"25006", TL_E_UNSUPPORTED}, /* read-only: a standby */
    {"25P02", TL_E_INVALID},     /* aborted transaction */
    {"28000", TL_E_DENIED},
    {"28P01", TL_E_DENIED},
    {"3F000", TL_E_SCHEMA}, /* no such schema */
    {"42501", TL_E_DENIED},
    {"42703", TL_E_SCHEMA}, /* no such column, function, table: schema of another version */
    {"42883", TL_E_SCHEMA},
    {"42P01", TL_E_SCHEMA},
    {"54000", TL_E_LIMIT}, /* a value larger than the server can hold */
    {"55000", TL_E_INVALID},
    {"57014", TL_E_TIMEOUT}, /* exec.c makes it TL_E_CANCELLED when the client asked for it */
    {"57P01", TL_E_CONNECTION},
    {"57P02", TL_E_CONNECTION},
    {"57P03", TL_E_CONNECTION},
    {"57P05", TL_E_CONNECTION},
    {"08", TL_E_CONNECTION},
    {"0A", TL_E_UNSUPPORTED},
    {"22", TL_E_INVALID}, /* data exceptions: 22P02, 22P05, 22021, 22030... */
    {"23", TL_E_INVALID},
    {"54", TL_E_LIMIT},
};

tl_status tl__status_from_sqlstate(const char *sqlstate, const char *constraint)
{
    if (strcmp(sqlstate, "23514") == 0 && constraint != NULL &&
        strcmp(constraint, "event_size") == 0)
        return TL_E_LIMIT;
    for (size_t i = 0; i < sizeof map / sizeof map[0]; i++) {
        if (strncmp(sqlstate, map[i].sqlstate, strlen(map[i].sqlstate)) == 0)
            return map[i].status;
    }
    return TL_E_SERVER;
}
