/*
 * client_test.h: a database, a client on it and a second connection beside it; for tests/pg only.
 */
#ifndef TL_CLIENT_TEST_H
#define TL_CLIENT_TEST_H

#include "client_assert.h"
#include "test_db.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <trunkline/trunkline.h>

struct fixture {
    char *conninfo;
    PGconn *db; /* what the test does behind the client's back */
    tl_client *c;
};

static inline const char *message(const tl_client *c)
{
    return tl_error_message(tl_client_error(c));
}

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    f->conninfo = test_db_create(1);
    f->db = test_db_connect(f->conninfo);
    assert_status(f->c, tl_client_open(f->conninfo, NULL, &f->c), TL_OK);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;

    f->c = tl_client_close(f->c);
    PQfinish(f->db);
    f->conninfo = test_db_drop(f->conninfo);
    free(f);
    return 0;
}

static inline int64_t event_count(PGconn *db)
{
    return query_number(db, "SELECT count(*) FROM trunkline.events");
}

/* Wait until a query gives something but 0; a test that waits for two minutes has failed. */
static inline void wait_for(PGconn *db, const char *sql)
{
    for (int i = 0; i < 24000; i++) {
        struct timespec pause = {.tv_nsec = 5000000};

        if (query_number(db, sql) != 0)
            return;
        (void)nanosleep(&pause, NULL);
    }
    fail_msg("waited in vain for: %s", sql);
}

#define test_with_client(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
