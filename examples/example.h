/* example.h: what every example needs: stop with the reason when a call fails. Not part of the library. */
#ifndef EXAMPLE_H
#define EXAMPLE_H

#include <stdio.h>
#include <stdlib.h>
#include <trunkline/trunkline.h>

static inline void need(tl_status status, const tl_error *error)
{
    if (status >= 0)
        return;
    fprintf(stderr, "%s: %s\n", tl_status_name(status), tl_error_message(error));
    exit(tl_status_exit_code(status));
}

/* The database: TRUNKLINE_DB, else libpq's environment. */
static inline tl_client *open_client(void)
{
    tl_client *c = NULL;
    tl_status status = tl_client_open(getenv("TRUNKLINE_DB"), NULL, &c);

    need(status, tl_client_error(c));
    return c;
}

#endif
