/*
 * client_assert.h: what all tests of the client say and ask; for tests/pg only.
 */
#ifndef TL_CLIENT_ASSERT_H
#define TL_CLIENT_ASSERT_H

#include "test_db.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <trunkline/trunkline.h>

/* Fail with the client's own words when a status is another than expected. */
#define assert_status(c, call, expected)                                                           \
    do {                                                                                           \
        tl_status got_ = (call);                                                                   \
        if (got_ != (expected))                                                                    \
            fail_msg("%s is %s (%s), not %s", #call, tl_status_name(got_),                         \
                     tl_error_message(tl_client_error(c)), tl_status_name(expected));              \
    } while (0)

#define assert_contains(text, part)                                                                \
    do {                                                                                           \
        if (strstr((text), (part)) == NULL)                                                        \
            fail_msg("'%s' is not in '%s'", (part), (text));                                       \
    } while (0)

static inline uint64_t clock_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* The only value of a query as a number. */
static inline int64_t query_number(PGconn *db, const char *sql)
{
    PGresult *res = test_db_query(db, sql);
    int64_t number;

    assert_int_equal(PQntuples(res), 1);
    number = strtoll(PQgetvalue(res, 0, 0), NULL, 10);
    PQclear(res);
    return number;
}

static inline void print_log(tl_log_level level, const char *message, void *userdata)
{
    (void)userdata;
    print_message("# log %d: %s\n", (int)level, message);
}

#endif
