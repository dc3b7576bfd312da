/*
 * consumer.c: the reading side as a process of its own: a worker of libtrunkline with a handler
 * that does nothing but count, or a bare LISTEN. It is driven over its stdin: "wait N" is answered
 * by the time when N was handled; the end of the input stops it, and it gives what it has seen.
 */
#include "bench.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_LATENCIES 1000000

extern char **environ;

/* -------------------------------------------------------------------- the benchmark's side -- */

struct consumer {
    pid_t pid;
    int fd;
    FILE *in;
};

static void read_line(struct consumer *c, char *line, int size)
{
    struct pollfd pfd = {.fd = c->fd, .events = POLLIN};

    if (poll(&pfd, 1, 120000) <= 0 || fgets(line, size, c->in) == NULL)
        die("consumer", "no answer");
}

struct consumer *consumer_spawn(const char *const *argv)
{
    struct consumer *c = need(calloc(1, sizeof *c));
    posix_spawn_file_actions_t actions;
    union {
        const char *const *in;
        char *const *out;
    } constant = {.in = argv};
    char line[64];
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        die("consumer", "no socket pair");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
    errno = posix_spawn(&c->pid, argv[0], &actions, NULL, constant.out, environ);
    if (errno != 0)
        die("cannot start", argv[0]);
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    c->fd = fds[0];
    c->in = need(fdopen(c->fd, "r+e"));
    read_line(c, line, sizeof line); /* "ready" */
    return c;
}

struct consumer *consumer_start(const struct bench *b, const char *kind, const char *subscription,
                                int claim_batch)
{
    char batch[16];

    snprintf(batch, sizeof batch, "%d", claim_batch);
    return consumer_spawn(
        (const char *const[]){b->self, "consumer", kind, b->conninfo, subscription, batch, NULL});
}

int consumer_pid(const struct consumer *c)
{
    return c->pid;
}

void consumer_ask(struct consumer *c, const char *order, char *line, int size)
{
    if (dprintf(c->fd, "%s\n", order) < 0)
        die("consumer", "is gone");
    read_line(c, line, size);
}

uint64_t consumer_wait(struct consumer *c, int64_t upto)
{
    char order[64];
    char line[64];

    snprintf(order, sizeof order, "wait %" PRId64, upto);
    consumer_ask(c, order, line, sizeof line);
    return strtoull(line, NULL, 10);
}

void consumer_end(struct consumer *c)
{
    int status;

    shutdown(c->fd, SHUT_WR);
    if (waitpid(c->pid, &status, 0) != c->pid || status != 0)
        die("consumer", "failed");
    fclose(c->in);
    free(c);
}

struct consumed consumer_stop(struct consumer *c)
{
    struct consumed seen = {0};
    char line[128];

    shutdown(c->fd, SHUT_WR);
    read_line(c, line, sizeof line);
    if (sscanf(line, "%" SCNd64 " %" SCNu64 " %" SCNu64 " %zu", &seen.events, &seen.first_ns,
               &seen.last_ns, &seen.latencies) != 4)
        die("consumer", line);
    seen.latency_us = need(malloc((seen.latencies + 1) * sizeof seen.latency_us[0]));
    if (fread(seen.latency_us, sizeof seen.latency_us[0], seen.latencies, c->in) != seen.latencies)
        die("consumer", "its latencies are cut short");
    consumer_end(c);
    return seen;
}

/* ---------------------------------------------------------------------- the consumer's side -- */

static struct {
    int64_t events;
    int64_t handled; /* last position, or the count */
    int64_t wanted;  /* 0: nobody waits */
    uint64_t first_ns;
    uint64_t last_ns;
    double *latency_us;
    size_t latencies;
} seen;

static void saw(const char *stamp)
{
    seen.last_ns = tl__clock_ns();
    if (seen.events++ == 0)
        seen.first_ns = seen.last_ns;
    if (stamp != NULL && seen.latencies < MAX_LATENCIES)
        seen.latency_us[seen.latencies++] =
            (double)(seen.last_ns - strtoull(stamp, NULL, 10)) / 1e3;
}

void consumer_saw(const char *data)
{
    saw(strncmp(data, "{\"t\":", 5) == 0 ? data + 5 : NULL);
    seen.handled++;
}

/* No look at the event: what the worker costs by itself. */
static tl_verdict on_any(tl_delivery *d, void *userdata)
{
    (void)d;
    (void)userdata;
    if (seen.events++ == 0)
        seen.first_ns = tl__clock_ns();
    if (++seen.handled == seen.wanted)
        seen.last_ns = tl__clock_ns();
    return TL_DONE;
}

static tl_verdict on_event(tl_delivery *d, void *userdata)
{
    const tl_event *e = tl_delivery_event(d);
    const char *data = tl_event_data(e, NULL);

    (void)userdata;
    saw(strncmp(data, "{\"t\": ", 6) == 0 ? data + 6 : NULL);
    seen.handled = tl_event_position(e);
    return TL_DONE;
}

/* False: the end of the input. */
static bool read_order(void)
{
    char line[64];
    ssize_t n = read(STDIN_FILENO, line, sizeof line - 1);

    if (n <= 0)
        return false;
    line[n] = '\0';
    seen.wanted = strtoll(line + strlen("wait "), NULL, 10);
    return true;
}

static void answer(void)
{
    if (seen.wanted > 0 && seen.handled >= seen.wanted) {
        printf("%" PRIu64 "\n", seen.last_ns);
        fflush(stdout);
        seen.wanted = 0;
    }
}

/* Waits until fd or the input is readable; true: the input. */
static bool wait_for(int fd, uint64_t deadline_us)
{
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    uint64_t now_us = tl__clock_ns() / 1000;
    uint64_t left_us = deadline_us > now_us ? deadline_us - now_us : 0;
    struct timespec ts = {.tv_sec = (time_t)(left_us / 1000000),
                          .tv_nsec = (long)(left_us % 1000000 * 1000)};

    return ppoll(fds, 2, deadline_us == UINT64_MAX ? NULL : &ts, NULL) > 0 && fds[1].revents != 0;
}

bool consumer_pause(int fd, uint64_t deadline_us)
{
    answer();
    if (wait_for(fd, deadline_us) && !read_order())
        return false;
    answer();
    return true;
}

static void log_line(tl_log_level level, const char *message, void *userdata)
{
    (void)userdata;
    if (level <= TL_LOG_WARN)
        fprintf(stderr, "trunkline-bench worker: %s\n", message);
}

/* Every subscription whose name begins so. */
static void handle_all(tl_client *c, tl_worker *w, const char *prefix)
{
    PGresult *res = PQexecParams(tl_client_pgconn(c),
                                 "SELECT name FROM trunkline.subscriptions WHERE name ^@ $1", 1,
                                 NULL, &prefix, NULL, NULL, 0);

    if (PQntuples(res) == 0)
        die("no subscription", prefix);
    for (int i = 0; i < PQntuples(res); i++) {
        if (tl_worker_handle(w, PQgetvalue(res, i, 0), on_any, NULL, NULL) != TL_OK)
            die("worker", tl_error_message(tl_worker_error(w)));
    }
    PQclear(res);
}

static void work(const char *conninfo, const char *subscription, uint32_t claim_batch,
                 bool is_fanout)
{
    tl_client *c;
    tl_worker *w;
    tl_status status;
    bool is_ready = false;

    if (tl_client_open(
            conninfo,
            TL_CLIENT_OPTIONS(.application_name = "trunkline-bench worker", .log = log_line),
            &c) != TL_OK ||
        tl_worker_new(c, "bench", NULL, TL_WORKER_OPTIONS(.claim_batch = claim_batch), &w) != TL_OK)
        die("worker", tl_error_message(tl_client_error(c)));
    if (is_fanout)
        handle_all(c, w, subscription);
    else if (tl_worker_handle(w, subscription, on_event, NULL, NULL) != TL_OK)
        die("worker", tl_error_message(tl_worker_error(w)));
    while ((status = tl_worker_process(w)) == TL_OK) {
        tl_worker_stats stats;

        tl_worker_get_stats(w, &stats);
        if (!is_ready && stats.is_sentinel && stats.is_listening) {
            is_ready = true;
            puts("ready");
            fflush(stdout);
        }
        answer();
        if (wait_for(tl_worker_fd(w), tl_worker_deadline_us(w)) && !read_order())
            tl_worker_stop(w);
    }
    if (status != TL_NOTHING)
        die("worker", tl_error_message(tl_worker_error(w)));
    tl_worker_free(w);
    tl_client_close(c);
}

/* The least that a consumer of a table does: one trip that reads the row and stores how far it has come. */
static void read_row(PGconn *conn, const char *position)
{
    PGresult *res = PQexecPrepared(conn, "row", 1, &position, NULL, NULL, 0);
    const char *data;

    if (PQresultStatus(res) != PGRES_TUPLES_OK || PQntuples(res) != 1)
        die("listener", PQerrorMessage(conn));
    data = PQgetvalue(res, 0, 0);
    saw(strncmp(data, "{\"t\": ", 6) == 0 ? data + 6 : NULL);
    PQclear(res);
}

static void listen_only(const char *conninfo, bool reads)
{
    PGconn *conn = connect_to(conninfo, "trunkline-bench listener");
    PGnotify *n;

    sql_exec(conn, "SET synchronous_commit = off; LISTEN bench");
    if (reads)
        PQclear(PQprepare(conn, "row",
                          "WITH u AS (UPDATE bench_reader SET \"position\" = $1::bigint) "
                          "SELECT data FROM bench_bare WHERE \"position\" = $1::bigint",
                          0, NULL));
    puts("ready");
    fflush(stdout);
    for (;;) {
        bool has_order = wait_for(PQsocket(conn), UINT64_MAX);

        if (!PQconsumeInput(conn))
            die("listener", PQerrorMessage(conn));
        while ((n = PQnotifies(conn)) != NULL) {
            if (reads)
                read_row(conn, n->extra);
            else
                saw(n->extra);
            seen.handled++;
            PQfreemem(n);
        }
        if (has_order && !read_order())
            break;
        answer();
    }
    PQfinish(conn);
}

int consumer_main(int argc, char **argv)
{
    if (argc != 6)
        die("consumer", "is started by trunkline-bench only");
    seen.latency_us = need(malloc(MAX_LATENCIES * sizeof seen.latency_us[0]));
    if (strcmp(argv[2], "listener") == 0 || strcmp(argv[2], "reader") == 0)
        listen_only(argv[3], argv[2][0] == 'r');
    else if (!peer_work(argv[2], argv[3], argv[4], argv[5]))
        work(argv[3], argv[4], (uint32_t)strtoul(argv[5], NULL, 10),
             strcmp(argv[2], "fanout") == 0);
    printf("%" PRId64 " %" PRIu64 " %" PRIu64 " %zu\n", seen.events, seen.first_ns, seen.last_ns,
           seen.latencies);
    fwrite(seen.latency_us, sizeof seen.latency_us[0], seen.latencies, stdout);
    fflush(stdout);
    return 0;
}
