/*
 * cmd_version.c: trunkline version.
 */
#include <libpq-fe.h>
#include <stdio.h>

#include <trunkline/trunkline.h>

#include "commands.h"

static int run(struct tl__args *args)
{
    int libpq = PQlibVersion();

    if (tl__args_has(args, "json"))
        printf("{\"version\":\"%s\",\"libpq\":\"%d.%d\"}\n", tl_version(), libpq / 10000,
               libpq % 10000);
    else
        printf("trunkline %s (libpq %d.%d)\n", tl_version(), libpq / 10000, libpq % 10000);
    return 0;
}

const struct tl__command tl__cmd_version = {
    .name = "version",
    .summary = "print the version",
    .run = run,
};
