/*
 * demo_receiver.c: see demo_receiver.h. libmicrohttpd with one thread of its own.
 */
#include "demo_receiver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "buf.h"
#include "json_scan.h"

static const size_t MAX_BODY_BYTES = 4u << 20;

struct tl__demo_receiver {
    struct MHD_Daemon *daemon;
    tl__demo_receive_fn fn;
    void *userdata;
};

static int64_t position_of(const struct tl__buf *body)
{
    struct tl__json_scan scan;
    struct tl__json_member m;

    tl__json_scan_start(&scan, body->data ? body->data : "", body->len);
    while (tl__json_scan_next(&scan, &m))
        if (m.name_len == strlen("position") && memcmp(m.name, "position", m.name_len) == 0)
            return strtoll(m.value, NULL, 10);
    return -1;
}

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT);
    enum MHD_Result result = MHD_queue_response(connection, status, response);

    MHD_destroy_response(response);
    return result;
}

/* Called first without a body, then for each part of it, then with none: only then is there an
 * answer, for libmicrohttpd closes a connection that is answered before its body was read. */
static enum MHD_Result on_request(void *userdata, struct MHD_Connection *connection,
                                  const char *url, const char *method, const char *version,
                                  const char *data, size_t *size, void **state)
{
    struct tl__demo_receiver *r = userdata;
    struct tl__buf *body = *state;

    (void)url;
    (void)version;
    if (!body) {
        *state = calloc(1, sizeof *body);
        return *state ? MHD_YES : MHD_NO;
    }
    if (*size > 0) {
        if (body->len + *size > MAX_BODY_BYTES)
            return MHD_NO;
        tl__buf_add(body, data, *size);
        *size = 0;
        return MHD_YES;
    }
    int64_t position = position_of(body);
    bool is_delivery =
        strcmp(method, "POST") == 0 && position >= 0 &&
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "webhook-id") != NULL;
    if (!is_delivery)
        return reply(connection, MHD_HTTP_BAD_REQUEST);
    r->fn(position, r->userdata);
    return reply(connection, MHD_HTTP_NO_CONTENT);
}

static void on_completed(void *userdata, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    (void)userdata;
    (void)connection;
    (void)code;
    if (*state)
        tl__buf_done(*state);
    free(*state);
}

static int listen_on(uint16_t *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(*port)};
    socklen_t len = sizeof at;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 128) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) != 0) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    *port = ntohs(at.sin_port);
    return fd;
}

struct tl__demo_receiver *tl__demo_receiver_start(uint16_t *port, tl__demo_receive_fn fn,
                                                  void *userdata)
{
    struct tl__demo_receiver *r = calloc(1, sizeof *r);
    int fd = r ? listen_on(port) : -1;

    if (fd < 0) {
        free(r);
        return NULL;
    }
    r->fn = fn;
    r->userdata = userdata;
    r->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL, 0, NULL, NULL,
                                 on_request, r, MHD_OPTION_LISTEN_SOCKET, fd,
                                 MHD_OPTION_NOTIFY_COMPLETED, on_completed, r, MHD_OPTION_END);
    if (r->daemon)
        return r;
    close(fd);
    free(r);
    errno = EIO;
    return NULL;
}

struct tl__demo_receiver *tl__demo_receiver_stop(struct tl__demo_receiver *r)
{
    if (r)
        MHD_stop_daemon(r->daemon);
    free(r);
    return NULL;
}
