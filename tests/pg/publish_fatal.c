/*
 * publish_fatal.c: a FATAL error ends the session, whatever its code, and what was sent may have been committed
 * (PUB-6). A server that dies of a full disk while it commits cannot be had at will: a proxy between client and
 * server keeps the answer back once and gives this one.
 */
#include "client_test.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ErrorResponse: severity, severity, code, message. */
static const char fatal[] = "E\0\0\0\60SFATAL\0VFATAL\0C53100\0Mdisk is full, beware\0";

enum { MOST_SESSIONS = 8 };

struct session {
    struct proxy *proxy;
    pthread_t thread;
    int client;
};

struct proxy {
    pthread_t thread;
    struct sockaddr_un server;
    int listener;
    struct session sessions[MOST_SESSIONS];
    int count;
    atomic_bool is_armed; /* the next answer is the FATAL error */
    atomic_bool has_struck;
    char conninfo[200];
};

/* Ends when one side does, or by the error. */
static void pass_on(struct proxy *p, int client, int server)
{
    struct pollfd fds[] = {{.fd = client, .events = POLLIN}, {.fd = server, .events = POLLIN}};
    char bytes[65536];

    while (poll(fds, 2, -1) > 0) {
        for (int i = 0; i < 2; i++) {
            ssize_t n = fds[i].revents != 0 ? read(fds[i].fd, bytes, sizeof bytes) : -1;

            if (fds[i].revents != 0 && n <= 0)
                return;
            if (i == 1 && n > 0 && atomic_exchange(&p->is_armed, false)) {
                atomic_store(&p->has_struck, true);
                (void)write(client, fatal, sizeof fatal);
                return;
            }
            if (n > 0 && write(fds[1 - i].fd, bytes, (size_t)n) != n)
                return;
        }
    }
}

static void *run_session(void *arg)
{
    struct session *s = arg;
    int server = socket(AF_UNIX, SOCK_STREAM, 0);

    if (connect(server, (struct sockaddr *)&s->proxy->server, sizeof s->proxy->server) == 0)
        pass_on(s->proxy, s->client, server);
    (void)close(server);
    (void)close(s->client);
    return NULL;
}

static void *run_proxy(void *arg)
{
    struct proxy *p = arg;
    int client;

    while ((client = accept(p->listener, NULL, NULL)) >= 0) {
        struct session *s = &p->sessions[p->count++];

        *s = (struct session){.proxy = p, .client = client};
        if (p->count == MOST_SESSIONS || pthread_create(&s->thread, NULL, run_session, s) != 0)
            abort();
    }
    return NULL;
}

static const char *option(const PQconninfoOption *options, const char *keyword)
{
    while (strcmp(options->keyword, keyword) != 0)
        options++;
    return options->val;
}

static void start_proxy(struct proxy *p, const struct fixture *f)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    PQconninfoOption *options = PQconninfoParse(f->conninfo, NULL);

    *p = (struct proxy){.server = {.sun_family = AF_UNIX}};
    assert_non_null(options);
    snprintf(p->server.sun_path, sizeof p->server.sun_path, "%s/.s.PGSQL.%s",
             option(options, "host"), option(options, "port"));
    p->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(p->listener, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(p->listener, 8), 0);
    assert_int_equal(getsockname(p->listener, (struct sockaddr *)&address, &length), 0);
    snprintf(p->conninfo, sizeof p->conninfo,
             "host=127.0.0.1 port=%d user=%s dbname=%s sslmode=disable gssencmode=disable",
             ntohs(address.sin_port), option(options, "user"), option(options, "dbname"));
    PQconninfoFree(options);
    assert_int_equal(pthread_create(&p->thread, NULL, run_proxy, p), 0);
}

/* All sessions have ended. */
static void stop_proxy(struct proxy *p)
{
    assert_int_equal(shutdown(p->listener, SHUT_RDWR), 0);
    assert_int_equal(pthread_join(p->thread, NULL), 0);
    for (int i = 0; i < p->count; i++)
        assert_int_equal(pthread_join(p->sessions[i].thread, NULL), 0);
    (void)close(p->listener);
}

static void assert_unknown(struct proxy *p, tl_status status, const tl_error *e)
{
    assert_true(atomic_load(&p->has_struck));
    assert_int_equal(status, TL_E_CONNECTION);
    assert_true(tl_error_outcome_unknown(e));
    assert_true(tl_error_is_retriable(e));
    atomic_store(&p->has_struck, false);
}

static void the_outcome_of_a_publish_is_unknown(void **state)
{
    struct fixture *f = *state;
    struct proxy p;
    tl_client *c = NULL;
    tl_status status;

    start_proxy(&p, f);
    assert_status(c, tl_client_open(p.conninfo, NULL, &c), TL_OK);
    assert_status(c, tl_publish(c, NULL, TL_NEW_EVENT(.type = "a.b"), NULL), TL_OK);
    atomic_store(&p.is_armed, true);
    status = tl_publish(c, NULL, TL_NEW_EVENT(.type = "a.b"), NULL);
    assert_unknown(&p, status, tl_client_error(c));
    assert_int_equal(event_count(f->db), 2); /* it was stored, as may be */
    assert_status(c, tl_publish(c, NULL, TL_NEW_EVENT(.type = "a.b"), NULL), TL_OK);
    c = tl_client_close(c);
    stop_proxy(&p);
}

static void the_outcome_of_a_group_is_unknown(void **state)
{
    struct fixture *f = *state;
    struct proxy p;
    tl_client *c = NULL;
    tl_publisher *publisher = NULL;
    tl_error *e = NULL;
    tl_status status;

    start_proxy(&p, f);
    assert_status(c, tl_client_open(p.conninfo, NULL, &c), TL_OK);
    assert_status(c, tl_publisher_new(c, NULL, &publisher), TL_OK);
    assert_int_equal(tl_publisher_publish(publisher, NULL, TL_NEW_EVENT(.type = "a.b"), NULL, NULL),
                     TL_OK);
    atomic_store(&p.is_armed, true);
    status = tl_publisher_publish(publisher, NULL, TL_NEW_EVENT(.type = "a.b"), NULL, &e);
    assert_unknown(&p, status, e);
    e = tl_error_free(e);
    assert_int_equal(tl_publisher_publish(publisher, NULL, TL_NEW_EVENT(.type = "a.b"), NULL, NULL),
                     TL_OK);
    publisher = tl_publisher_free(publisher);
    c = tl_client_close(c);
    stop_proxy(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_with_client(the_outcome_of_a_publish_is_unknown),
        test_with_client(the_outcome_of_a_group_is_unknown),
    };

    return cmocka_run_group_tests_name("publish_fatal", tests, NULL, NULL);
}
