/*
 * receiver.c: the smallest HTTP server that can take web hooks: keep-alive, bodies with a length,
 * 204 to all. One thread, epoll. It counts, keeps one body, and takes the time of those that have a
 * stamp. Loopback only.
 */
#include "bench.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_STAMPED 200000
#define BUFFER_BYTES 65536

struct connection {
    int fd;
    size_t len;
    char data[BUFFER_BYTES];
};

struct receiver {
    pthread_t thread;
    int listen_fd, epoll_fd, stop_fd;
    int port;
    pthread_mutex_t lock; /* of the rest */
    uint64_t count, signed_count, first_ns, last_ns;
    char *body; /* of the first request */
    size_t body_len;
    double *latency_us;
    size_t latencies;
};

static void note(struct receiver *r, bool is_signed, const char *body, size_t len)
{
    const char *stamp = memmem(body, len, "\"t\": ", 5);
    uint64_t now_ns = tl__clock_ns();

    pthread_mutex_lock(&r->lock);
    r->last_ns = now_ns;
    if (r->count++ == 0)
        r->first_ns = now_ns;
    r->signed_count += is_signed;
    if (r->body == NULL) {
        r->body = need(malloc(len + 1));
        memcpy(r->body, body, len);
        r->body[len] = '\0';
        r->body_len = len;
    }
    if (stamp != NULL && r->latencies < MAX_STAMPED)
        r->latency_us[r->latencies++] = (double)(now_ns - strtoull(stamp + 5, NULL, 10)) / 1e3;
    pthread_mutex_unlock(&r->lock);
}

/* One request at the front of the buffer; false: it is not complete. */
static bool take_request(struct receiver *r, struct connection *c)
{
    static const char answer[] = "HTTP/1.1 204 No Content\r\n\r\n";
    char *end = memmem(c->data, c->len, "\r\n\r\n", 4);
    const char *length;
    size_t body_len;
    size_t head_len;
    bool is_signed;

    if (end == NULL)
        return false;
    head_len = (size_t)(end + 4 - c->data);
    *end = '\0';
    length = strcasestr(c->data, "\r\ncontent-length:");
    body_len = length != NULL ? strtoul(length + strlen("\r\ncontent-length:"), NULL, 10) : 0;
    is_signed = strcasestr(c->data, "\r\nwebhook-signature:") != NULL;
    *end = '\r';
    if (head_len + body_len > BUFFER_BYTES)
        die("receiver", "a request is larger than its buffer");
    if (c->len < head_len + body_len)
        return false;
    note(r, is_signed, c->data + head_len, body_len);
    if (send(c->fd, answer, sizeof answer - 1, MSG_NOSIGNAL) != (ssize_t)sizeof answer - 1)
        die("receiver", "cannot answer");
    c->len -= head_len + body_len;
    memmove(c->data, c->data + head_len + body_len, c->len);
    return true;
}

static void serve_connection(struct receiver *r, struct connection *c)
{
    ssize_t n = recv(c->fd, c->data + c->len, BUFFER_BYTES - c->len, 0);

    if (n <= 0) {
        close(c->fd);
        free(c);
        return;
    }
    c->len += (size_t)n;
    while (take_request(r, c)) {
    }
}

static void accept_one(struct receiver *r)
{
    struct connection *c = need(calloc(1, sizeof *c));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

    c->fd = accept4(r->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (c->fd < 0)
        die("receiver", "cannot accept");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
}

static void *run(void *userdata)
{
    struct receiver *r = userdata;

    for (;;) {
        struct epoll_event events[64];
        int n = epoll_wait(r->epoll_fd, events, 64, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &r->stop_fd)
                return NULL;
            if (events[i].data.ptr == r)
                accept_one(r);
            else
                serve_connection(r, events[i].data.ptr);
        }
    }
}

struct receiver *receiver_start(void)
{
    struct receiver *r = need(calloc(1, sizeof *r));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = r};

    r->latency_us = need(malloc(MAX_STAMPED * sizeof r->latency_us[0]));
    pthread_mutex_init(&r->lock, NULL);
    r->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    r->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (bind(r->listen_fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(r->listen_fd, 256) != 0 ||
        getsockname(r->listen_fd, (struct sockaddr *)&address, &len) != 0)
        die("receiver", "cannot listen");
    r->port = ntohs(address.sin_port);
    epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, r->listen_fd, &event);
    event.data.ptr = &r->stop_fd;
    epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, r->stop_fd, &event);
    if (pthread_create(&r->thread, NULL, run, r) != 0)
        die("receiver", "no thread");
    return r;
}

int receiver_port(const struct receiver *r)
{
    return r->port;
}

uint64_t receiver_cpu_ns(const struct receiver *r)
{
    struct timespec ts = {0};
    clockid_t clock;

    if (pthread_getcpuclockid(r->thread, &clock) == 0)
        clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void receiver_reset(struct receiver *r)
{
    pthread_mutex_lock(&r->lock);
    r->count = r->signed_count = r->first_ns = r->last_ns = r->latencies = 0;
    pthread_mutex_unlock(&r->lock);
}

struct received receiver_wait(struct receiver *r, uint64_t count)
{
    uint64_t give_up_ns = tl__clock_ns() + 120000000000u;
    struct received seen = {0};

    while (seen.count < count) {
        if (tl__clock_ns() > give_up_ns)
            die("receiver", "not every request came");
        tl__sleep_until_ns(tl__clock_ns() + 1000000u);
        pthread_mutex_lock(&r->lock);
        seen = (struct received){.count = r->count,
                                 .signed_count = r->signed_count,
                                 .per_s = (double)(r->count - 1) * 1e9 /
                                          (double)(r->last_ns - r->first_ns),
                                 .body = r->body,
                                 .body_len = r->body_len,
                                 .latency_us = r->latency_us,
                                 .latencies = r->latencies};
        pthread_mutex_unlock(&r->lock);
    }
    return seen;
}

void receiver_stop(struct receiver *r)
{
    uint64_t one = 1;

    if (write(r->stop_fd, &one, sizeof one) != (ssize_t)sizeof one)
        die("receiver", "cannot be stopped");
    pthread_join(r->thread, NULL);
    close(r->listen_fd);
    close(r->epoll_fd);
    close(r->stop_fd);
    free(r->latency_us);
    free(r->body);
    free(r);
}
