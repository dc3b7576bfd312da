/*
 * webhook_http: requests of the daemon to webhooks over real sockets (SUB-11): connections that are
 * used again or were given up meanwhile, time limits, and that nobody is asked before a body is sent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http.h"
#include "message.h"
#include "netguard.h"
#include "trunkline/trunkline_version.h"

/* -------------------------------------------------------------------------------------- server -- */

#define CLOSE "!" /* behind an answer: then the connection ends */
#define HOLD "?"  /* no answer */

static const char no_content[] = "HTTP/1.1 204 No Content\r\n\r\n";

struct server {
    pthread_t thread;
    int fd, port;
    const char *const *script; /* an answer for each request, over all connections */
    atomic_int connections, requests, ended;
    char seen[8][2000]; /* requests, their beginnings */
    size_t body_lens[8];
};

/* False: the connection has ended. */
static bool read_request(int fd, char *to, size_t size, size_t *ret_body_len)
{
    static char data[65536];
    size_t len = 0, want = 0, got = 0;

    while (want == 0 || got < want) {
        ssize_t n = recv(fd, data + len, want ? sizeof data : sizeof data - 1 - len, 0);
        if (n <= 0)
            return false;
        got += (size_t)n;
        if (want) /* of the body nothing is kept */
            continue;
        len += (size_t)n;
        data[len] = 0;
        char *end = strstr(data, "\r\n\r\n"), *length = strcasestr(data, "\r\nContent-Length: ");
        if (!end)
            continue;
        *ret_body_len = length ? strtoul(length + 18, NULL, 10) : 0;
        want = (size_t)(end + 4 - data) + *ret_body_len;
        snprintf(to, size, "%.*s", (int)size - 1, data);
        len = 0;
    }
    return true;
}

static void serve_connection(struct server *s, int fd)
{
    size_t body_len = 0;
    char request[2000];

    while (read_request(fd, request, sizeof request, &body_len)) {
        int at = s->requests;
        memcpy(s->seen[at], request, sizeof request);
        s->body_lens[at] = body_len;
        s->requests++;
        const char *answer = s->script[at];
        if (answer[0] == '?')
            continue;
        size_t len = strcspn(answer, "!");
        assert_int_equal(send(fd, answer, len, MSG_NOSIGNAL), len);
        if (answer[len])
            return;
    }
}

static void *serve(void *userdata)
{
    struct server *s = userdata;
    int fd;

    while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
        s->connections++;
        serve_connection(s, fd);
        close(fd);
        s->ended++;
    }
    return NULL;
}

struct world {
    uv_loop_t loop;
    struct tl__netguard guard;
    struct tl__sink_env env;
    struct tl__http *http;
    struct server server;
    char url[100];
    int answered;
    struct tl__http_answer answer; /* the last */
    char body[100], error[300];
};

static void start(struct world *w, const char *const *script)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;

    *w = (struct world){.guard.is_open = true, .server.script = script};
    w->server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(w->server.fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(w->server.fd, 16), 0);
    assert_int_equal(getsockname(w->server.fd, (struct sockaddr *)&address, &len), 0);
    w->server.port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&w->server.thread, NULL, serve, &w->server), 0);
    uv_loop_init(&w->loop);
    w->env = (struct tl__sink_env){.loop = &w->loop, .guard = &w->guard};
    w->http = tl__http_start(&w->env);
    assert_non_null(w->http);
    snprintf(w->url, sizeof w->url, "http://127.0.0.1:%d/hook", w->server.port);
}

static void stop(struct world *w)
{
    tl__http_stop(w->http);
    while (uv_run(&w->loop, UV_RUN_DEFAULT) != 0) {
    }
    assert_int_equal(uv_loop_close(&w->loop), 0);
    shutdown(w->server.fd, SHUT_RDWR);
    pthread_join(w->server.thread, NULL);
    close(w->server.fd);
}

static void on_done(void *userdata, const struct tl__http_answer *answer)
{
    struct world *w = userdata;

    w->answered++;
    uv_stop(&w->loop);
    w->answer = *answer;
    snprintf(w->body, sizeof w->body, "%s", answer->body);
    snprintf(w->error, sizeof w->error, "%s", answer->error ? answer->error : "");
}

static void post_form(struct world *w, const struct tl__message_form *form, const char *body,
                      size_t len, uint64_t timeout_us)
{
    const struct tl__sink_delivery delivery = {.id = "d.1", .body = body, .body_len = len};
    struct tl__message message;
    int before = w->answered;

    assert_true(tl__message_make(form, &delivery, 1, &message));
    assert_true(tl__http_post(w->http, &(struct tl__http_request){.url = w->url,
                                                                  .body = message.body,
                                                                  .body_len = message.body_len,
                                                                  .headers = message.headers,
                                                                  .timeout_us = timeout_us,
                                                                  .done = on_done,
                                                                  .userdata = w}));
    while (w->answered == before)
        uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(w->answered, before + 1);
    tl__message_done(&message);
}

static void post_body(struct world *w, const char *body, size_t len, uint64_t timeout_us)
{
    const struct tl__message_form form = {.format = TL__MESSAGE_PLAIN};

    post_form(w, &form, body, len, timeout_us);
}

static void post(struct world *w)
{
    post_body(w, "[1]", 3, 120000000);
}

static void assert_answered(const struct world *w, int status, int requests, int connections)
{
    if (w->answer.end != TL__HTTP_ANSWERED)
        fail_msg("%s", w->error);
    assert_int_equal(w->answer.status, status);
    assert_int_equal(w->server.requests, requests);
    assert_int_equal(w->server.connections, connections);
}

static void test_one_connection_for_many_requests(void **state)
{
    static const char *const script[] = {
        no_content, "HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes", no_content};
    struct world w;

    (void)state;
    start(&w, script);
    post(&w);
    assert_answered(&w, 204, 1, 1);
    post(&w);
    assert_answered(&w, 500, 2, 1);
    assert_string_equal(w.body, "no");
    post(&w);
    assert_answered(&w, 200, 3, 1);
    assert_string_equal(w.body, "yes");
    post(&w);
    assert_answered(&w, 204, 4, 1);
    assert_string_equal(w.body, "");
    stop(&w);
}

/* A receiver that is asked (Expect: 100-continue) and does not answer costs a second a request. */
static void test_nobody_is_asked_before_a_body(void **state)
{
    static const char *const script[] = {no_content, no_content, no_content,
                                         no_content, no_content, no_content};
    static const size_t lens[] = {3, 1024, 1025, 1000000, 1048577, 8000000};
    char *body = malloc(8000000);
    struct world w;

    (void)state;
    memset(body, ' ', 8000000);
    start(&w, script);
    for (int i = 0; i < 6; i++) {
        post_body(&w, body, lens[i], 120000000);
        assert_answered(&w, 204, i + 1, 1);
        assert_int_equal(w.server.body_lens[i], lens[i]);
        assert_null(strcasestr(w.server.seen[i], "\r\nexpect"));
    }
    stop(&w);
    free(body);
}

/* All of them, each once, as lines of their own. */
static void test_header_lines(void **state)
{
    static const char *const script[] = {no_content, no_content};
    static const size_t lens[] = {3, 5000};
    static char body[5000], second[] = "X-B: c: d", first[] = "accept: text/plain";
    struct curl_slist list[] = {{first, &list[1]}, {second, NULL}};
    const struct tl__message_form form = {
        .format = TL__MESSAGE_PLAIN,
        .secrets = (const char *const[]){"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"},
        .secret_count = 1,
        .headers = list};
    char expected[600];
    struct world w;

    (void)state;
    start(&w, script);
    for (int i = 0; i < 2; i++) {
        char *signature = NULL;
        post_form(&w, &form, body, lens[i], 120000000);
        assert_answered(&w, 204, i + 1, 1);
        assert_int_equal(tl_webhook_sign(form.secrets, 1, "d.1", 1, body, lens[i], &signature),
                         TL_OK);
        snprintf(
            expected, sizeof expected,
            "POST /hook HTTP/1.1\r\nHost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
            "user-agent: trunkline/" TL_VERSION "\r\nwebhook-id: d.1\r\nwebhook-timestamp: 1\r\n"
            "webhook-signature: %s\r\naccept: text/plain\r\nX-B: c: d\r\nContent-Length: %zu\r\n"
            "\r\n",
            w.server.port, signature, lens[i]);
        w.server.seen[i][strlen(expected)] = 0; /* there the body begins */
        assert_string_equal(w.server.seen[i], expected);
        tl_free(signature);
    }
    stop(&w);
}

static void test_a_connection_that_was_given_up(void **state)
{
    static const char *const script[] = {no_content, CLOSE, no_content};
    struct world w;

    (void)state;
    start(&w, script);
    post(&w);
    post(&w); /* its end comes instead of an answer: once more, on a new one */
    assert_answered(&w, 204, 3, 2);
    assert_string_equal(w.server.seen[1], w.server.seen[2]);
    stop(&w);
}

static void test_a_new_connection_without_an_answer_is_a_failure(void **state)
{
    static const char *const script[] = {CLOSE, "nonsense" CLOSE, no_content};
    struct world w;

    (void)state;
    start(&w, script);
    for (int i = 0; i < 2; i++) {
        post(&w);
        assert_int_equal(w.answer.end, TL__HTTP_FAILED);
        assert_int_equal(w.answer.status, 0);
    }
    post(&w);
    assert_answered(&w, 204, 3, 3);
    stop(&w);
}

static void test_time_limit(void **state)
{
    static const char *const script[] = {no_content, HOLD, no_content};
    struct world w;

    (void)state;
    start(&w, script);
    post(&w);
    post_body(&w, "1", 1, 100000);
    assert_int_equal(w.answer.end, TL__HTTP_TIMED_OUT);
    assert_true(w.answer.duration_us >= 99000); /* libcurl's clock may have started earlier */
    post(&w);                                   /* with its own limit again */
    assert_answered(&w, 204, 3, 2);
    stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_connection_for_many_requests),
        cmocka_unit_test(test_nobody_is_asked_before_a_body),
        cmocka_unit_test(test_header_lines),
        cmocka_unit_test(test_a_connection_that_was_given_up),
        cmocka_unit_test(test_a_new_connection_without_an_answer_is_a_failure),
        cmocka_unit_test(test_time_limit),
    };
    return cmocka_run_group_tests_name("webhook_http", tests, NULL, NULL);
}
