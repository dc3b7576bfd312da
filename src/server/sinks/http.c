/*
 * http.c: see http.h. Redirects are not followed and no proxy is used; the address is checked when
 * the connection is made, after the name was resolved, so no name can lead inside.
 */
#include "http.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "buf.h"
#include "clock.h"
#include "netguard.h"
#include "trunkline/trunkline_version.h"

enum { MAX_IDLE_HANDLES = 64, MAX_IDLE_CONNECTIONS = 1000 };

struct tl__http {
    const struct tl__sink_env *env;
    CURLM *multi;
    uv_timer_t timer;
    int open_handles; /* of libuv */
    bool is_stopping;
    struct exchange *first; /* in flight */
    CURL *idle[MAX_IDLE_HANDLES];
    int idle_count;
};

struct exchange {
    struct exchange *next, **link;
    struct tl__http *http;
    struct tl__http_request request;
    CURL *easy;
    char curl_error[CURL_ERROR_SIZE];
    struct tl__buf body;
    size_t received;
    uint64_t started_us;
    bool is_refused; /* an address was refused by the guard */
};

struct watch {
    uv_poll_t poll;
    curl_socket_t fd;
    struct tl__http *http;
};

/* ----------------------------------------------------------------------------- libcurl on libuv */

static void http_release(struct tl__http *http)
{
    if (--http->open_handles == 0 && http->is_stopping)
        free(http);
}

static void on_timer_closed(uv_handle_t *handle)
{
    http_release(handle->data);
}

static void on_watch_closed(uv_handle_t *handle)
{
    struct watch *watch = handle->data;

    http_release(watch->http);
    free(watch);
}

static void finish_exchanges(struct tl__http *http);

static void on_socket_ready(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    struct tl__http *http = watch->http;
    int flags = status < 0 ? CURL_CSELECT_ERR : 0, running;

    flags |= events & UV_READABLE ? CURL_CSELECT_IN : 0;
    flags |= events & UV_WRITABLE ? CURL_CSELECT_OUT : 0;
    curl_multi_socket_action(http->multi, watch->fd, flags, &running);
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
    if (http->is_stopping)
        return 0;
    if (timeout_ms < 0)
        uv_timer_stop(&http->timer);
    else
        uv_timer_start(&http->timer, on_timer, (uint64_t)timeout_ms, 0);
    return 0;
}

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *socket_data)
{
    struct tl__http *http = userdata;
    struct watch *watch = socket_data;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (watch) {
            uv_poll_stop(&watch->poll);
            uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
            curl_multi_assign(http->multi, fd, NULL);
        }
        return 0;
    }
    if (!watch) {
        watch = calloc(1, sizeof *watch);
        if (!watch)
            return -1;
        *watch = (struct watch){.fd = fd, .http = http};
        if (uv_poll_init_socket(http->env->loop, &watch->poll, fd) != 0) {
            free(watch);
            return -1;
        }
        watch->poll.data = watch;
        http->open_handles++;
        curl_multi_assign(http->multi, fd, watch);
    }
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    return uv_poll_start(&watch->poll, events, on_socket_ready) == 0 ? 0 : -1;
}

struct tl__http *tl__http_start(const struct tl__sink_env *env)
{
    struct tl__http *http = calloc(1, sizeof *http);

    if (!http)
        return NULL;
    http->env = env;
    http->multi = curl_multi_init();
    if (!http->multi || uv_timer_init(env->loop, &http->timer) != 0) {
        curl_multi_cleanup(http->multi);
        free(http);
        return NULL;
    }
    http->timer.data = http;
    http->open_handles = 1;
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, set_socket);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    /* its own measure is what runs just now: between two claims it would close them all */
    curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long)MAX_IDLE_CONNECTIONS);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
    return http;
}

void tl__http_stop(struct tl__http *http)
{
    http->is_stopping = true;
    while (http->idle_count > 0)
        curl_easy_cleanup(http->idle[--http->idle_count]);
    curl_multi_cleanup(http->multi); /* closes idle connections: their watches go */
    http->multi = NULL;
    uv_close((uv_handle_t *)&http->timer, on_timer_closed);
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
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
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

/* A handle that was used before: its buffers are there. Connections belong to the multi handle. */
static CURL *take_handle(struct tl__http *http)
{
    if (http->idle_count == 0)
        return curl_easy_init();
    return http->idle[--http->idle_count];
}

static void give_handle(struct tl__http *http, CURL *easy)
{
    if (easy && http->idle_count < MAX_IDLE_HANDLES) {
        curl_easy_reset(easy);
        http->idle[http->idle_count++] = easy;
    } else {
        curl_easy_cleanup(easy);
    }
}

static void exchange_free(struct exchange *x)
{
    if (x->link) {
        *x->link = x->next;
        if (x->next)
            x->next->link = x->link;
    }
    give_handle(x->http, x->easy); /* it still points to the headers */
    curl_slist_free_all(x->request.headers);
    tl__buf_done(&x->body);
    free(x);
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
    exchange_free(x);
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

static bool set_up(struct exchange *x)
{
    const struct tl__http_request *q = &x->request;
    const struct tl__sink_env *env = x->http->env;
    uint64_t timeout_ms = q->timeout_us < 1000 ? 1 : q->timeout_us / 1000;

    curl_easy_setopt(x->easy, CURLOPT_PRIVATE, x);
    curl_easy_setopt(x->easy, CURLOPT_ERRORBUFFER, x->curl_error);
    curl_easy_setopt(x->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(x->easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(x->easy, CURLOPT_PROXY, ""); /* a proxy would connect past the guard */
    curl_easy_setopt(x->easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(x->easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(x->easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(x->easy, CURLOPT_SSL_VERIFYHOST, 2L);
    if (env->webhook_ca_file &&
        curl_easy_setopt(x->easy, CURLOPT_CAINFO, env->webhook_ca_file) != CURLE_OK)
        return false;
    curl_easy_setopt(x->easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(x->easy, CURLOPT_HTTPHEADER, q->headers);
    curl_easy_setopt(x->easy, CURLOPT_USERAGENT, "trunkline/" TL_VERSION);
    curl_easy_setopt(x->easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(x->easy, CURLOPT_OPENSOCKETDATA, x);
    curl_easy_setopt(x->easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(x->easy, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(x->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body_len);
    curl_easy_setopt(x->easy, CURLOPT_POSTFIELDS, q->body); /* not copied: lives until done */
    return curl_easy_setopt(x->easy, CURLOPT_PROTOCOLS_STR,
                            env->is_https_only ? "https" : "http,https") == CURLE_OK &&
           curl_easy_setopt(x->easy, CURLOPT_URL, q->url) == CURLE_OK;
}

bool tl__http_post(struct tl__http *http, const struct tl__http_request *request)
{
    struct exchange *x = calloc(1, sizeof *x);

    if (!x) {
        curl_slist_free_all(request->headers);
        return false;
    }
    x->http = http;
    x->request = *request;
    x->started_us = tl__clock_us();
    x->easy = take_handle(http);
    if (!x->easy || !set_up(x) || curl_multi_add_handle(http->multi, x->easy) != CURLM_OK) {
        exchange_free(x);
        return false;
    }
    x->link = &http->first;
    x->next = http->first;
    if (x->next)
        x->next->link = &x->next;
    http->first = x;
    return true;
}
