/*
 * store.c: a store of events: append with the version last seen, read, follow live. Two handlers get every
 * event once and in order, although their connection is cut between the second and the third.
 *
 *   $ TRUNKLINE_DB=… build/examples/store
 */
#include "example.h"

#include <inttypes.h>
#include <libpq-fe.h>

struct follower {
    const char *name;
    int64_t seen; /* the version it saw last */
    int count;
};

static void store(tl_client *c, int64_t expected_version, const char *type, const char *data)
{
    tl_appended done;

    need(tl_append(c, "order-1", expected_version, TL_NEW_EVENT(.type = type, .data = data), 1,
                   NULL, &done),
         tl_client_error(c));
    printf("stored %s as version %" PRId64 "\n", type, done.version);
}

static int on_event(tl_live *live, const tl_event *e, void *userdata)
{
    struct follower *f = userdata;

    (void)live;
    printf("%s: version %" PRId64 " %s\n", f->name, tl_event_version(e), tl_event_type(e));
    f->seen = tl_event_version(e);
    f->count++;
    return 0;
}

/* Drive the subscriptions until both have seen a version. A program that does nothing else would call
 * tl_client_run(c, UINT64_MAX) once. */
static void follow(tl_client *c, const struct follower *a, const struct follower *b,
                   int64_t version)
{
    while (a->seen < version || b->seen < version) {
        tl_status status = tl_client_run(c, 10000);

        if (status != TL_E_TIMEOUT)
            need(status, tl_client_error(c));
    }
}

static void print_stream(tl_client *c)
{
    const tl_event *e;
    tl_reader *r;

    need(tl_reader_open_stream(c, "order-1", NULL, &r), tl_client_error(c));
    while (tl_reader_next(r, &e) == TL_OK)
        printf("read version %" PRId64 " %s %s\n", tl_event_version(e), tl_event_type(e),
               tl_event_data(e, NULL));
    tl_reader_close(r);
}

static void cut_connections(tl_client *c)
{
    PQclear(PQexec(tl_client_pgconn(c),
                   "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                   "datname = current_database() AND usename = current_user AND "
                   "application_name = current_setting('application_name') AND "
                   "pid <> pg_backend_pid()"));
}

int main(void)
{
    struct follower stream = {.name = "SubscribeToStream"};
    struct follower all = {.name = "SubscribeToAll"};
    tl_live *of_stream, *of_all;
    tl_client *c = open_client();
    int64_t version;

    store(c, TL_EXPECT_NO_STREAM, "order.created", "{\"total\": \"299.99\"}");
    store(c, 1, "order.paid", "{}");
    if (tl_append(c, "order-1", 1, TL_NEW_EVENT(.type = "order.paid"), 1, NULL, NULL) ==
        TL_E_CONFLICT)
        printf("refused: expected version %" PRId64 ", actual %" PRId64 "\n",
               tl_error_expected_version(tl_client_error(c)),
               tl_error_actual_version(tl_client_error(c)));
    print_stream(c);

    need(tl_subscribe_stream(c, "order-1", NULL, on_event, &stream, &of_stream),
         tl_client_error(c));
    need(tl_subscribe_all(c, NULL, on_event, &all, &of_all), tl_client_error(c));
    follow(c, &stream, &all, 2);
    cut_connections(c);
    store(c, 2, "order.shipped", "{\"tracking\": \"TRACK-1\"}");
    follow(c, &stream, &all, 3);
    printf("each saw %d and %d events\n", stream.count, all.count);

    need(tl_stream_version(c, "order-1", NULL, &version), tl_client_error(c));
    printf("latest version %" PRId64 ", seen up to %" PRId64 "\n", version,
           tl_live_position(of_stream));
    tl_client_close(c); /* with its subscriptions */
    return 0;
}
