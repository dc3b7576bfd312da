/*
 * receiver.c: see receiver.h. libmicrohttpd with one thread of its own.
 */
#include "receiver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "buf.h"

static const size_t MAX_BODY_BYTES = 4u << 20;

struct tl__receiver {
    struct MHD_Daemon *daemon;
    tl__receive_fn fn;
    void (*sent)(void *userdata);
    void *userdata;
};

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
    struct tl__receiver *r = userdata;
    struct tl__buf *body = *state;

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
    if (body->is_failed)
        return MHD_NO;
    return reply(connection, r->fn(&(struct tl__received){.method = method,
                                                          .path = url,
                                                          .body = body->data ? body->data : "",
                                                          .body_len = body->len,
                                                          .connection = connection},
                                   r->userdata));
}

static void on_completed(void *userdata, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    struct tl__receiver *r = userdata;

    (void)connection;
    if (*state)
        tl__buf_done(*state);
    free(*state);
    if (r->sent && code == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        r->sent(r->userdata);
}

const char *tl__received_header(const struct tl__received *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
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

struct tl__receiver *tl__receiver_start(uint16_t *port, tl__receive_fn fn,
                                        void (*sent)(void *userdata), void *userdata)
{
    struct tl__receiver *r = calloc(1, sizeof *r);
    int fd = r ? listen_on(port) : -1;

    if (fd < 0) {
        free(r);
        return NULL;
    }
    r->fn = fn;
    r->sent = sent;
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

struct tl__receiver *tl__receiver_stop(struct tl__receiver *r)
{
    if (r)
        MHD_stop_daemon(r->daemon);
    free(r);
    return NULL;
}
