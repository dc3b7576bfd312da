/*
 * live_subscriber.c: what live.t watches: three live subscriptions from the beginning, a line for each event:
 * which one, position, version. Ends on SIGTERM with a line that says how it fared.
 *
 *   live_subscriber CONNINFO STREAM CATEGORY
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <trunkline/trunkline.h>

static tl_client *client;

static void on_term(int signal)
{
    (void)signal;
    tl_client_wake(client);
}

static void print_log(tl_log_level level, const char *message, void *userdata)
{
    (void)userdata;
    fprintf(stderr, "%d %s\n", (int)level, message);
}

static void need(tl_status status)
{
    if (status == TL_OK)
        return;
    fprintf(stderr, "%s: %s\n", tl_status_name(status), tl_error_message(tl_client_error(client)));
    exit(tl_status_exit_code(status));
}

static int print_event(tl_live *live, const tl_event *e, void *userdata)
{
    (void)live;
    printf("%s %" PRId64 " %" PRId64 "\n", (const char *)userdata, tl_event_position(e),
           tl_event_version(e));
    return 0;
}

static void print_end(tl_live *live, int status, void *userdata)
{
    fprintf(stderr, "%s ended: %d %s\n", (const char *)userdata, status,
            tl_error_message(tl_live_error(live)));
}

int main(int argc, char **argv)
{
    struct sigaction act = {.sa_handler = on_term};
    static char names[][9] = {"stream", "category", "all"};
    const tl_live_options *opts = TL_LIVE_OPTIONS(.ended = print_end);
    tl_live_stats stats;
    tl_live *live;
    tl_status status;

    if (argc != 4)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    need(tl_client_open(argv[1],
                        TL_CLIENT_OPTIONS(.application_name = "live", .log = print_log,
                                          .reconnect_base_us = 10000, .reconnect_cap_us = 200000),
                        &client));
    need(tl_subscribe_stream(client, argv[2], opts, print_event, names[0], &live));
    need(tl_subscribe_category(client, argv[3], opts, print_event, names[1], &live));
    need(tl_subscribe_all(client, opts, print_event, names[2], &live));
    if (sigaction(SIGTERM, &act, NULL) != 0)
        return 71;
    puts("ready 0 0");
    status = tl_client_run(client, UINT64_MAX);
    tl_client_get_live_stats(client, &stats);
    fprintf(stderr, "%s reconnects=%" PRIu64 " wakes=%" PRIu64 "\n", tl_status_name(status),
            stats.reconnects, stats.wakes);
    tl_client_close(client);
    return status == TL_E_CANCELLED ? 0 : 1;
}
