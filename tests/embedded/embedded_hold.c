/*
 * embedded_hold: attach to the embedded PostgreSQL on behalf of a test script.
 *
 *   embedded_hold        attaches, prints "ready <server pid> <started|adopted> <conninfo>", then obeys
 *                        one word per line of stdin:
 *                          ensure   "ready ..." again
 *                          check    "works" if a new connection answers a query, else "broken ..."
 *                          close    "closed" and the end; so does the end of input
 *   embedded_hold stop   "stopped" or "nothing"
 *   embedded_hold dir    the directory that open would use
 * A failure prints "failed <tl_status>", then lines that begin with "message: ", "detail: " and
 * "hint: ", then ".". Progress goes to stderr.
 */
#include "embedded.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

static void on_progress(tl__embedded_phase phase, const char *text, void *userdata)
{
    (void)phase;
    (void)userdata;
    fprintf(stderr, "%s\n", text);
}

static int fail(const tl__embedded_error *err)
{
    printf("failed %d\nmessage: %s\ndetail: %s\nhint: %s\n.\n", (int)err->status, err->message,
           err->detail, err->hint);
    fflush(stdout);
    return 1;
}

static void print_ready(const tl__embedded *e)
{
    printf("ready %d %s %s\n", (int)tl__embedded_server_pid(e),
           tl__embedded_was_started(e) ? "started" : "adopted", tl__embedded_conninfo(e));
    fflush(stdout);
}

static void check(const tl__embedded *e)
{
    PGconn *connection = PQconnectdb(tl__embedded_conninfo(e));
    PGresult *result = PQexec(connection, "SELECT 1");
    if (PQresultStatus(result) == PGRES_TUPLES_OK)
        puts("works");
    else
        printf("broken %s\n", PQerrorMessage(connection));
    fflush(stdout);
    PQclear(result);
    PQfinish(connection);
}

int main(int argc, char **argv)
{
    tl__embedded_options options = {.size = sizeof(options), .progress = on_progress};
    tl__embedded_error err = {0};
    const char *verb = argc > 1 ? argv[1] : "hold";
    if (strcmp(verb, "dir") == 0) {
        char dir[TL__EMBEDDED_DIR_BYTES];
        if (tl__embedded_default_dir(&options, dir, sizeof(dir), &err) != TL_OK)
            return fail(&err);
        puts(dir);
        return 0;
    }
    if (strcmp(verb, "stop") == 0) {
        tl_status status = tl__embedded_stop(&options, &err);
        if (status < TL_OK)
            return fail(&err);
        puts(status == TL_OK ? "stopped" : "nothing");
        return 0;
    }

    tl__embedded *e;
    if (tl__embedded_open(&options, &e, &err) != TL_OK)
        return fail(&err);
    print_ready(e);
    char line[64];
    int code = 0;
    while (fgets(line, sizeof(line), stdin) && strcmp(line, "close\n") != 0) {
        if (strcmp(line, "check\n") == 0)
            check(e);
        else if (tl__embedded_ensure(e, &err) == TL_OK)
            print_ready(e);
        else
            code = fail(&err);
    }
    tl__embedded_close(e, &err);
    if (err.status != TL_OK)
        return fail(&err);
    puts("closed");
    return code;
}
