/*
 * http.c: see http.h. Redirects are not followed and no proxy is used; the address is checked when
 * the connection is made, after the name was resolved, so no name can lead inside.
 *
 * All sockets are in an epoll set of this file's own, which libuv watches as one. libcurl says
 * "remove" when a request ends and "add" when the next one takes the connection: in between a
 * connection stays in the set, and a request costs no system call for that.
 */
#include "http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "buf.h"
#include "clock.h"
#include "netguard.h"

enum { MAX_IDLE_HANDLES = 64, MAX_IDLE_CONNECTIONS = 1000, EVENTS_A_LOOK = 64, READ_BYTES = 1024 };

/* What is known of a socket, by its number. */
struct watch {
    uint8_t wanted;  /* by libcurl: EPOLLIN, EPOLLOUT; 0: an idle connection */
    uint8_t watched; /* in the set */
    bool is_ours;    /* made by open_socket, so we hear when it is closed */
};

struct tl__http {
    const struct tl__sink_env *env;
    CURLM *multi;
    int epoll_fd;
    uv_poll_t poll; /* of epoll_fd */
    uv_timer_t timer;
    struct watch *watches;
    size_t watch_count;
    int open_handles;       /* of libuv */
    struct exchange *first; /* in flight */
    struct exchange *idle;
    int idle_count;
};

/* A request and its handle, which outlives it: the next one to the same URL finds it set up. */
struct exchange {
    struct exchange *next, **link; /* link: in flight only */
    struct tl__http *http;
    struct tl__http_request request;
    CURL *easy;
    char *url;
    CURLU *parsed;  /* once, and not for each request */
    bool is_set_up; /* for it */
    char curl_error[CURL_ERROR_SIZE];
    struct tl__buf body;
    size_t received;
    uint64_t started_us;
    bool is_refused; /* an address was refused by the guard */
};

/* ----------------------------------------------------------------------------- libcurl on libuv */

static void on_closed(uv_handle_t *handle)
{
    struct tl__http *http = handle->data;

    if (--http->open_handles > 0)
        return;
    close(http->epoll_fd);
    free(http->watches);
    free(http);
}

static void finish_exchanges(struct tl__http *http);

static struct watch *find_watch(struct tl__http *http, curl_socket_t fd)
{
    size_t at = (size_t)fd, count = http->watch_count ? http->watch_count : 64;

    if (at < http->watch_count)
        return &http->watches[at];
    while (count <= at)
        count *= 2;
    struct watch *watches = realloc(http->watches, count * sizeof *watches);
    if (!watches)
        return NULL;
    memset(watches + http->watch_count, 0, (count - http->watch_count) * sizeof *watches);
    http->watches = watches;
    http->watch_count = count;
    return &watches[at];
}

static bool change_watch(struct tl__http *http, curl_socket_t fd, struct watch *w, uint8_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    int failed = 0;

    if (events == 0)
        (void)epoll_ctl(http->epoll_fd, EPOLL_CTL_DEL, fd, &event); /* it may be closed already */
    else
        failed = epoll_ctl(http->epoll_fd, w->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
    w->watched = failed ? 0 : events;
    return !failed;
}

static void on_sockets_ready(uv_poll_t *poll, int status, int what)
{
    struct tl__http *http = poll->data;
    struct epoll_event events[EVENTS_A_LOOK];
    int n = epoll_wait(http->epoll_fd, events, EVENTS_A_LOOK, 0), running;

    (void)status;
    (void)what;
    for (int i = 0; i < n; i++) {
        int fd = events[i].data.fd;
        unsigned got = events[i].events;
        if (!http->watches[fd].wanted) { /* the other side closed an idle connection */
            change_watch(http, fd, &http->watches[fd], 0);
            continue;
        }
        curl_multi_socket_action(http->multi, fd,
                                 (got & EPOLLIN ? CURL_CSELECT_IN : 0) |
                                     (got & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                                     (got & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0),
                                 &running);
    }
    finish_exchanges(http);
}

static void on_timer(uv_timer_t *timer)
{
    struct tl__http *http = timer->data;
    int running;

    curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    finish_exchanges(http);
}

static int set_timer(CURLM *multi, long timeout_ms, void *userdata)
{
    struct tl__http *http = userdata;

    (void)multi;
    if (timeout_ms < 0)
        uv_timer_stop(&http->timer);
    else
        uv_timer_start(&http->timer, on_timer, (uint64_t)timeout_ms, 0);
    return 0;
}

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *socket_data)
{
    struct tl__http *http = userdata;
    struct watch *w = find_watch(http, fd);

    (void)easy;
    (void)socket_data;
    if (!w)
        return -1;
    w->wanted = what == CURL_POLL_REMOVE ? 0
                                         : (uint8_t)((what & CURL_POLL_IN ? EPOLLIN : 0) |
                                                     (what & CURL_POLL_OUT ? EPOLLOUT : 0));
    if (w->wanted == w->watched || (w->wanted == 0 && w->is_ours))
        return 0;
    return change_watch(http, fd, w, w->wanted) ? 0 : -1;
}

struct tl__http *tl__http_start(const struct tl__sink_env *env)
{
    struct tl__http *http = calloc(1, sizeof *http);

    if (!http)
        return NULL;
    http->env = env;
    http->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    http->multi = http->epoll_fd < 0 ? NULL : curl_multi_init();
    if (!http->multi || uv_poll_init(env->loop, &http->poll, http->epoll_fd) != 0) {
        curl_multi_cleanup(http->multi);
        if (http->epoll_fd >= 0)
            close(http->epoll_fd);
        free(http);
        return NULL;
    }
    uv_timer_init(env->loop, &http->timer);
    http->timer.data = http->poll.data = http;
    http->open_handles = 2;
    uv_poll_start(&http->poll, UV_READABLE, on_sockets_ready);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, set_socket);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    /* its own measure is what runs just now: between two claims it would close them all */
    curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long)MAX_IDLE_CONNECTIONS);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
    return http;
}

static void exchange_free(struct exchange *x)
{
    curl_easy_cleanup(x->easy);
    tl__buf_done(&x->body);
    curl_url_cleanup(x->parsed);
    free(x->url);
    free(x);
}

void tl__http_stop(struct tl__http *http)
{
    while (http->idle) {
        struct exchange *x = http->idle;
        http->idle = x->next;
        exchange_free(x);
    }
    curl_multi_cleanup(http->multi); /* closes idle connections */
    http->multi = NULL;
    uv_close((uv_handle_t *)&http->poll, on_closed);
    uv_close((uv_handle_t *)&http->timer, on_closed);
}

/* --------------------------------------------------------------------------------- one exchange */

static curl_socket_t open_socket(void *userdata, curlsocktype purpose,
                                 struct curl_sockaddr *address)
{
    struct exchange *x = userdata;

    if (purpose != CURLSOCKTYPE_IPCXN ||
        !(x->request.is_host_allowed ||
          tl__netguard_permits(x->http->env->guard, &address->addr))) {
        x->is_refused = true;
        return CURL_SOCKET_BAD;
    }
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    struct watch *w = fd < 0 ? NULL : find_watch(x->http, fd);
    if (w)
        *w = (struct watch){.is_ours = true};
    return fd;
}

static int close_socket(void *userdata, curl_socket_t fd)
{
    struct tl__http *http = userdata;
    struct watch *w = find_watch(http, fd);

    if (w)
        *w = (struct watch){0}; /* closing it takes it out of the set */
    return close(fd);
}

/* Keep the beginning, then cut the connection. */
static size_t take_body(char *data, size_t size, size_t count, void *userdata)
{
    struct exchange *x = userdata;
    size_t len = size * count, room = TL_HTTP_MAX_KEPT_BYTES - x->body.len;

    tl__buf_add(&x->body, data, len < room ? len : room);
    x->received += len;
    return x->received > TL_HTTP_MAX_KEPT_BYTES ? 0 : len;
}

/* NULL: no memory. */
static struct exchange *take_exchange(struct tl__http *http, const char *url)
{
    struct exchange **at = &http->idle, *x;

    while (*at && strcmp((*at)->url, url) != 0)
        at = &(*at)->next;
    if (!*at && http->idle_count == MAX_IDLE_HANDLES)
        at = &http->idle; /* of another URL */
    x = *at;
    if (x) {
        *at = x->next;
        http->idle_count--;
        if (strcmp(x->url, url) == 0)
            return x;
        exchange_free(x);
    }
    x = calloc(1, sizeof *x);
    if (x) {
        x->http = http;
        x->easy = curl_easy_init();
        x->url = strdup(url);
        x->parsed = curl_url();
    }
    return x;
}

/* Its request is over: keep the handle, if it is good. Connections belong to the multi handle. */
static void give_exchange(struct exchange *x)
{
    struct tl__http *http = x->http;

    if (x->link) {
        *x->link = x->next;
        if (x->next)
            x->next->link = x->link;
        x->link = NULL;
    }
    if (!x->is_set_up || http->idle_count == MAX_IDLE_HANDLES) {
        exchange_free(x);
        return;
    }
    x->next = http->idle;
    http->idle = x;
    http->idle_count++;
}

static void answer(struct exchange *x, struct tl__http_answer *a)
{
    tl__http_done_fn done = x->request.done;
    void *userdata = x->request.userdata;

    a->body = x->body.data ? x->body.data : "";
    a->body_len = x->body.len;
    a->duration_us = tl__clock_us() - x->started_us;
    curl_multi_remove_handle(x->http->multi, x->easy);
    done(userdata, a);
    give_exchange(x);
}

static void finish(struct exchange *x, CURLcode code)
{
    curl_off_t wait_s = 0;
    long status = 0;
    struct tl__http_answer a = {
        .error = *x->curl_error ? x->curl_error : curl_easy_strerror(code),
    };

    if (code == CURLE_WRITE_ERROR && x->received > TL_HTTP_MAX_KEPT_BYTES)
        code = CURLE_OK; /* a long answer is still an answer */
    curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(x->easy, CURLINFO_RETRY_AFTER, &wait_s);
    a.status = (int)status;
    a.retry_after_us = wait_s > 0 && wait_s < 31536000 ? (uint64_t)wait_s * 1000000 : 0;
    a.end = code == CURLE_OK                   ? TL__HTTP_ANSWERED
            : x->is_refused                    ? TL__HTTP_REFUSED
            : code == CURLE_OPERATION_TIMEDOUT ? TL__HTTP_TIMED_OUT
                                               : TL__HTTP_FAILED;
    answer(x, &a);
}

static void finish_exchanges(struct tl__http *http)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(http->multi, &left))) {
        struct exchange *x;
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &x);
        finish(x, code);
    }
}

void tl__http_abort(struct tl__http *http)
{
    while (http->first)
        answer(http->first, &(struct tl__http_answer){.end = TL__HTTP_ABORTED, .error = "stopped"});
}

/* All that is the same for every request to the URL. */
static bool set_up(struct exchange *x)
{
    const struct tl__sink_env *env = x->http->env;

    curl_easy_setopt(x->easy, CURLOPT_PRIVATE, x);
    curl_easy_setopt(x->easy, CURLOPT_ERRORBUFFER, x->curl_error);
    curl_easy_setopt(x->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(x->easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(x->easy, CURLOPT_PROXY, ""); /* a proxy would connect past the guard */
    curl_easy_setopt(x->easy, CURLOPT_NOPROXY,
                     "*"); /* else the environment is looked at each time */
    curl_easy_setopt(x->easy, CURLOPT_BUFFERSIZE, (long)READ_BYTES); /* made for each request */
    curl_easy_setopt(x->easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(x->easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(x->easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(x->easy, CURLOPT_SSL_VERIFYHOST, 2L);
    if (strncmp(x->url, "https:", 6) != 0) { /* libcurl copies them for each request */
        curl_easy_setopt(x->easy, CURLOPT_CAINFO, NULL);
        curl_easy_setopt(x->easy, CURLOPT_CAPATH, NULL);
    } else if (env->webhook_ca_file &&
               curl_easy_setopt(x->easy, CURLOPT_CAINFO, env->webhook_ca_file) != CURLE_OK) {
        return false;
    }
    curl_easy_setopt(x->easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(x->easy, CURLOPT_OPENSOCKETDATA, x);
    curl_easy_setopt(x->easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
    curl_easy_setopt(x->easy, CURLOPT_CLOSESOCKETDATA, x->http); /* the connection outlives x */
    curl_easy_setopt(x->easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(x->easy, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(x->easy, CURLOPT_POST, 1L);
    /* Else the end of a request whose name nobody resolves waits for the resolver's thread, and with
     * it the loop: other endpoints and the leases. */
    curl_easy_setopt(x->easy, CURLOPT_QUICK_EXIT, 1L);
    return curl_easy_setopt(x->easy, CURLOPT_PROTOCOLS_STR,
                            env->is_https_only ? "https" : "http,https") == CURLE_OK &&
           x->parsed && curl_url_set(x->parsed, CURLUPART_URL, x->url, 0) == CURLUE_OK &&
           curl_easy_setopt(x->easy, CURLOPT_CURLU, x->parsed) == CURLE_OK;
}

static bool start_exchange(struct exchange *x, const struct tl__http_request *q)
{
    uint64_t timeout_ms = q->timeout_us < 1000 ? 1 : q->timeout_us / 1000;

    x->request = *q;
    tl__buf_clear(&x->body);
    x->curl_error[0] = 0;
    x->received = 0;
    x->is_refused = false;
    x->started_us = tl__clock_us();
    x->is_set_up = x->easy && x->url && (x->is_set_up || set_up(x));
    if (!x->is_set_up)
        return false;
    curl_easy_setopt(x->easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(x->easy, CURLOPT_HTTPHEADER, q->headers);
    curl_easy_setopt(x->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body_len);
    curl_easy_setopt(x->easy, CURLOPT_POSTFIELDS, q->body); /* not copied: lives until done */
    return curl_multi_add_handle(x->http->multi, x->easy) == CURLM_OK;
}

bool tl__http_post(struct tl__http *http, const struct tl__http_request *request)
{
    struct exchange *x = take_exchange(http, request->url);

    if (!x)
        return false;
    if (!start_exchange(x, request)) {
        give_exchange(x);
        return false;
    }
    x->link = &http->first;
    x->next = http->first;
    if (x->next)
        x->next->link = &x->next;
    http->first = x;
    return true;
}
