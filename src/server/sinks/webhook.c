/*
 * webhook.c: targets "https://…" and "http://…": one POST for each event, by libcurl's multi
 * interface on the loop. Only 2xx is success; redirects are not followed; the address is checked
 * when the connection is made, after the name was resolved, so no name can lead inside.
 * Signatures are not made here yet.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#include "netguard.h"
#include "sink.h"
#include "trunkline/trunkline_version.h"

enum {
    MAX_RESPONSE_BYTES = 20000, /* read of an answer; the rest is cut off */
    MAX_SNIPPET_BYTES = 200,    /* of it kept with the error */
};
static const uint64_t LONG_WAIT_US = 60000000; /* after 429 and time-outs, at least */

/* Shared by all webhook sinks of a loop. */
struct driver {
    const struct tl__sink_env *env;
    CURLM *multi;
    uv_timer_t timer;
    int open_handles; /* of libuv */
    bool is_stopping;
    struct request *first; /* in flight */
};

struct tl__sink {
    struct driver *driver;
    char *url;
};

struct request {
    struct request *next, **link;
    struct driver *driver;
    struct tl__sink_delivery *delivery;
    CURL *easy;
    struct curl_slist *headers;
    char curl_error[CURL_ERROR_SIZE];
    char snippet[MAX_SNIPPET_BYTES + 1];
    size_t snippet_len, response_len;
    bool is_refused; /* an address was refused by the guard */
};

struct watch {
    uv_poll_t poll;
    curl_socket_t fd;
    struct driver *driver;
};

/* ----------------------------------------------------------------------------- libcurl on libuv */

static void driver_release(struct driver *driver)
{
    if (--driver->open_handles == 0 && driver->is_stopping)
        free(driver);
}

static void on_timer_closed(uv_handle_t *handle)
{
    driver_release(handle->data);
}

static void on_watch_closed(uv_handle_t *handle)
{
    struct watch *watch = handle->data;

    driver_release(watch->driver);
    free(watch);
}

static void finish_requests(struct driver *driver);

static void on_socket_ready(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    struct driver *driver = watch->driver;
    int flags = status < 0 ? CURL_CSELECT_ERR : 0, running;

    flags |= events & UV_READABLE ? CURL_CSELECT_IN : 0;
    flags |= events & UV_WRITABLE ? CURL_CSELECT_OUT : 0;
    curl_multi_socket_action(driver->multi, watch->fd, flags, &running);
    finish_requests(driver);
}

static void on_timer(uv_timer_t *timer)
{
    struct driver *driver = timer->data;
    int running;

    curl_multi_socket_action(driver->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    finish_requests(driver);
}

static int set_timer(CURLM *multi, long timeout_ms, void *userdata)
{
    struct driver *driver = userdata;

    (void)multi;
    if (driver->is_stopping)
        return 0;
    if (timeout_ms < 0)
        uv_timer_stop(&driver->timer);
    else
        uv_timer_start(&driver->timer, on_timer, (uint64_t)timeout_ms, 0);
    return 0;
}

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *socket_data)
{
    struct driver *driver = userdata;
    struct watch *watch = socket_data;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (watch) {
            uv_poll_stop(&watch->poll);
            uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
            curl_multi_assign(driver->multi, fd, NULL);
        }
        return 0;
    }
    if (!watch) {
        watch = calloc(1, sizeof *watch);
        if (!watch)
            return -1;
        *watch = (struct watch){.fd = fd, .driver = driver};
        if (uv_poll_init_socket(driver->env->loop, &watch->poll, fd) != 0) {
            free(watch);
            return -1;
        }
        watch->poll.data = watch;
        driver->open_handles++;
        curl_multi_assign(driver->multi, fd, watch);
    }
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    return uv_poll_start(&watch->poll, events, on_socket_ready) == 0 ? 0 : -1;
}

static void *start(const struct tl__sink_env *env)
{
    struct driver *driver = calloc(1, sizeof *driver);

    if (!driver)
        return NULL;
    driver->env = env;
    driver->multi = curl_multi_init();
    if (!driver->multi || uv_timer_init(env->loop, &driver->timer) != 0) {
        curl_multi_cleanup(driver->multi);
        free(driver);
        return NULL;
    }
    driver->timer.data = driver;
    driver->open_handles = 1;
    curl_multi_setopt(driver->multi, CURLMOPT_SOCKETFUNCTION, set_socket);
    curl_multi_setopt(driver->multi, CURLMOPT_SOCKETDATA, driver);
    curl_multi_setopt(driver->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(driver->multi, CURLMOPT_TIMERDATA, driver);
    return driver;
}

static void *stop(void *shared)
{
    struct driver *driver = shared;

    driver->is_stopping = true;
    curl_multi_cleanup(driver->multi); /* closes idle connections: their watches go */
    driver->multi = NULL;
    uv_close((uv_handle_t *)&driver->timer, on_timer_closed);
    return NULL;
}

/* ---------------------------------------------------------------------------------- one request */

static curl_socket_t open_socket(void *userdata, curlsocktype purpose,
                                 struct curl_sockaddr *address)
{
    struct request *r = userdata;

    if (purpose != CURLSOCKTYPE_IPCXN ||
        !tl__netguard_permits(r->driver->env->guard, &address->addr)) {
        r->is_refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* Keep the beginning, read on up to the limit, then cut the connection. */
static size_t take_response(char *data, size_t size, size_t count, void *userdata)
{
    struct request *r = userdata;
    size_t len = size * count, room = MAX_SNIPPET_BYTES - r->snippet_len;

    for (size_t i = 0; i < len && i < room; i++) {
        unsigned char c = (unsigned char)data[i];
        r->snippet[r->snippet_len++] = c < 0x20 || c >= 0x7f ? ' ' : (char)c;
    }
    r->response_len += len;
    return r->response_len > MAX_RESPONSE_BYTES ? 0 : len;
}

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high)
{
    return value < low ? low : value > high ? high : value;
}

static struct tl__sink_result judge(struct request *r, CURLcode code, char *text, size_t size,
                                    char summary[16])
{
    struct tl__sink_result result = {.word = TL__SINK_RETRY, .error = text};
    uint64_t base = r->delivery->backoff_us;
    curl_off_t wait_s = 0;
    long http = 0;

    curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &http);
    curl_easy_getinfo(r->easy, CURLINFO_RETRY_AFTER, &wait_s);
    if (code == CURLE_WRITE_ERROR && r->response_len > MAX_RESPONSE_BYTES)
        code = CURLE_OK; /* a long answer is still an answer */
    if (code == CURLE_OK && http >= 200 && http <= 299)
        return (struct tl__sink_result){.word = TL__SINK_DELIVERED};
    if (code == CURLE_OK) {
        snprintf(summary, 16, "HTTP %ld", http);
        snprintf(text, size, "%s%s%s", summary, r->snippet_len ? ": " : "", r->snippet);
        result.summary = summary;
        if (wait_s > 0)
            result.retry_after_us = clamp((uint64_t)wait_s * 1000000, base, base * 2);
        if (http == 429)
            result.retry_after_us = clamp(result.retry_after_us, LONG_WAIT_US, UINT64_MAX);
    } else if (r->is_refused) {
        snprintf(text, size,
                 "address refused: private, loopback and reserved addresses need "
                 "--webhook-allow or --allow-private");
    } else {
        snprintf(text, size, "%s", *r->curl_error ? r->curl_error : curl_easy_strerror(code));
        if (code == CURLE_OPERATION_TIMEDOUT)
            result.retry_after_us = clamp(base, LONG_WAIT_US, UINT64_MAX);
    }
    return result;
}

static void request_free(struct request *r)
{
    if (r->link) {
        *r->link = r->next;
        if (r->next)
            r->next->link = r->link;
    }
    curl_slist_free_all(r->headers);
    curl_easy_cleanup(r->easy);
    free(r);
}

static void finish_requests(struct driver *driver)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(driver->multi, &left))) {
        struct request *r;
        char text[CURL_ERROR_SIZE + 300], summary[16];
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &r);
        struct tl__sink_result result = judge(r, code, text, sizeof text, summary);
        struct tl__sink_delivery *delivery = r->delivery;
        curl_multi_remove_handle(driver->multi, r->easy);
        request_free(r);
        delivery->done(delivery, &result);
    }
}

static bool add_header(struct request *r, const char *name, const char *value)
{
    char line[512];
    int n = snprintf(line, sizeof line, "%s: %s", name, value);
    struct curl_slist *list =
        n > 0 && (size_t)n < sizeof line ? curl_slist_append(r->headers, line) : NULL;

    if (list)
        r->headers = list;
    return list != NULL;
}

static bool set_up(struct request *r, const char *url)
{
    const struct tl__sink_delivery *d = r->delivery;
    char now[24];

    snprintf(now, sizeof now, "%lld", (long long)time(NULL));
    if (!add_header(r, "content-type", "application/json") || !add_header(r, "webhook-id", d->id) ||
        !add_header(r, "webhook-timestamp", now) || !add_header(r, "expect", ""))
        return false;
    curl_easy_setopt(r->easy, CURLOPT_PRIVATE, r);
    curl_easy_setopt(r->easy, CURLOPT_ERRORBUFFER, r->curl_error);
    curl_easy_setopt(r->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(r->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(r->easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(r->easy, CURLOPT_PROXY, ""); /* a proxy would connect past the guard */
    curl_easy_setopt(r->easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(r->easy, CURLOPT_TIMEOUT_MS,
                     (long)(r->driver->env->webhook_timeout_us / 1000));
    curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers);
    curl_easy_setopt(r->easy, CURLOPT_USERAGENT, "trunkline/" TL_VERSION);
    curl_easy_setopt(r->easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(r->easy, CURLOPT_OPENSOCKETDATA, r);
    curl_easy_setopt(r->easy, CURLOPT_WRITEFUNCTION, take_response);
    curl_easy_setopt(r->easy, CURLOPT_WRITEDATA, r);
    curl_easy_setopt(r->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)d->body_len);
    curl_easy_setopt(r->easy, CURLOPT_POSTFIELDS, d->body); /* not copied: lives until done */
    return curl_easy_setopt(r->easy, CURLOPT_URL, url) == CURLE_OK;
}

static void deliver(struct tl__sink *sink, struct tl__sink_delivery *delivery)
{
    struct request *r = calloc(1, sizeof *r);

    if (r) {
        r->driver = sink->driver;
        r->delivery = delivery;
        r->easy = curl_easy_init();
        if (r->easy && set_up(r, sink->url) &&
            curl_multi_add_handle(sink->driver->multi, r->easy) == CURLM_OK) {
            r->link = &sink->driver->first;
            r->next = sink->driver->first;
            if (r->next)
                r->next->link = &r->next;
            sink->driver->first = r;
            return;
        }
        request_free(r);
    }
    delivery->done(delivery, &(struct tl__sink_result){.word = TL__SINK_RETRY,
                                                       .error = "cannot start the request"});
}

static void abort_all(const struct tl__sink_env *env)
{
    struct driver *driver = env->shared;

    while (driver->first) {
        struct request *r = driver->first;
        struct tl__sink_delivery *delivery = r->delivery;
        curl_multi_remove_handle(driver->multi, r->easy);
        request_free(r);
        delivery->done(delivery,
                       &(struct tl__sink_result){.word = TL__SINK_RETRY, .error = "stopped"});
    }
}

/* --------------------------------------------------------------------------------------- target */

static struct tl__sink *open_target(const struct tl__sink_env *env, const char *target,
                                    const char *call, const char **ret_problem)
{
    CURLU *parsed = curl_url();
    bool is_url = parsed && curl_url_set(parsed, CURLUPART_URL, target, 0) == CURLUE_OK;
    struct tl__sink *sink = is_url && env->shared ? calloc(1, sizeof *sink) : NULL;

    (void)call;
    curl_url_cleanup(parsed);
    *ret_problem = is_url ? "out of memory" : "malformed URL";
    if (!sink)
        return NULL;
    sink->driver = env->shared;
    sink->url = strdup(target);
    if (!sink->url) {
        free(sink);
        return NULL;
    }
    return sink;
}

static struct tl__sink *close_target(struct tl__sink *sink)
{
    if (sink)
        free(sink->url);
    free(sink);
    return NULL;
}

static const char *const prefixes[] = {"https://", "http://", NULL};

const struct tl__sink_kind tl__sink_webhook = {
    .name = "webhook",
    .prefixes = prefixes,
    .start = start,
    .stop = stop,
    .open = open_target,
    .deliver = deliver,
    .abort = abort_all,
    .close = close_target,
};
