/*
 * group.c: a server with a thread for each request. Eight threads publish ten events each and go on only when
 * theirs is durable; the library commits for several of them at once, over one connection. An event that is
 * refused fails its own caller. Then the same from an event loop.
 */
#include "example.h"

#include <poll.h>
#include <pthread.h>
#include <time.h>

static void *serve_requests(void *arg)
{
    tl_publisher *p = arg;

    for (int i = 0; i < 10; i++) {
        tl_error *e = NULL;
        tl_receipt receipt;

        /* With an id of yours a request can be repeated when tl_error_outcome_unknown(): it is stored once. */
        need(tl_publisher_publish(p, NULL, TL_NEW_EVENT(.type = "request.served"), &receipt, &e),
             e);
    }
    return NULL;
}

static void published(tl_status status, const tl_receipt *receipt, const tl_error *error,
                      void *userdata)
{
    (void)receipt;
    need(status, error);
    *(int *)userdata += 1;
}

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void loop(tl_publisher *p)
{
    int done = 0;

    for (int i = 0; i < 20; i++) {
        tl_error *e = NULL;

        need(
            tl_publisher_submit(p, NULL, TL_NEW_EVENT(.type = "loop.turned"), published, &done, &e),
            e);
    }
    while (done < 20) {
        struct pollfd fd = {.fd = tl_publisher_fd(p), .events = (short)tl_publisher_events(p)};
        uint64_t at_us = tl_publisher_deadline_us(p);
        uint64_t now = now_us();

        (void)poll(&fd, 1,
                   at_us <= now            ? 0
                   : at_us - now > 1000000 ? 1000
                                           : 1 + (int)((at_us - now) / 1000));
        need(tl_publisher_process(p), NULL);
    }
    printf("20 events from a loop\n");
}

int main(void)
{
    tl_client *c = open_client();
    tl_publisher *p = NULL;
    tl_publisher_stats stats;
    tl_error *e = NULL;
    pthread_t threads[8];

    need(tl_publisher_new(c, NULL, &p), tl_client_error(c));
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, serve_requests, p);
    if (tl_publisher_publish(p, NULL, TL_NEW_EVENT(.type = "request.served", .data = "{"), NULL,
                             &e) == TL_E_INVALID)
        printf("refused: %s\n", tl_error_message(e));
    tl_error_free(e);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    tl_publisher_get_stats(p, &stats);
    printf("%d events of 8 threads, %d failed\n", (int)stats.published, (int)stats.failed);
    loop(p);
    tl_publisher_free(p);
    tl_client_close(c);
    return 0;
}
