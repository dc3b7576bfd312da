/*
 * group.c: many callers, each waiting until its own event is durable: with a connection each, with one
 * tl_publisher for all of them, and with a Redis stream that fsyncs before it answers.
 */
#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CALLERS 32

enum { BARE, GROUP, REDIS, VARIANTS };

static void call_group(void *context)
{
    tl_receipt receipt;
    tl_error *error = NULL;

    if (tl_publisher_publish(
            context, NULL,
            TL_NEW_EVENT(.type = event_type, .data = invoice, .tenant_id = event_tenant), &receipt,
            &error) != TL_OK)
        die("tl_publisher_publish", tl_error_message(error));
}

/* --------------------------------------------------------------------------------------- redis -- */

static char xadd[1024]; /* one command of its protocol */
static int xadd_len;

static int redis_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        die("redis", "cannot connect");
    return fd;
}

static void call_redis(void *context)
{
    const int *fd = context;
    char answer[128];
    ssize_t n;

    if (write(*fd, xadd, (size_t)xadd_len) != xadd_len)
        die("redis", "cannot write");
    n = read(*fd, answer, sizeof answer); /* "$15\r\n<id>\r\n", in one packet */
    if (n <= 0 || answer[0] != '$')
        die("redis", "refused an XADD");
}

/* NULL, with the reason in the report: there is none. */
static struct consumer *redis_start(const struct bench *b, char *path, char *version)
{
    char script[4096];
    char line[200];
    struct consumer *c;

    if (b->peers == NULL || system("command -v redis-server >/dev/null") != 0) { // NOLINT
        report_note("not compared with Redis streams: %s",
                    b->peers == NULL ? "no --peers" : "redis-server is not installed");
        return NULL;
    }
    snprintf(script, sizeof script, "%s/redis", b->peers);
    c = consumer_spawn((const char *const[]){script, NULL});
    consumer_ask(c, "", line, sizeof line);
    if (sscanf(line, "%99s %31s", path, version) != 2)
        die("redis", line);
    xadd_len = snprintf(xadd, sizeof xadd,
                        "*9\r\n$4\r\nXADD\r\n$3\r\nbus\r\n$1\r\n*\r\n$4\r\ntype\r\n$%zu\r\n%s\r\n"
                        "$6\r\ntenant\r\n$%zu\r\n%s\r\n$4\r\ndata\r\n$%zu\r\n%s\r\n",
                        strlen(event_type), event_type, strlen(event_tenant), event_tenant,
                        strlen(invoice), invoice);
    return c;
}

/* --------------------------------------------------------------------------------------- turns -- */

static int publisher_pid(const struct bench *b)
{
    return (int)sql_int(b->admin, "SELECT pid FROM pg_stat_activity WHERE application_name = "
                                  "'trunkline-bench group' AND query LIKE '%topic_bus%'");
}

static void take_turns(const struct bench *b, struct figure *f,
                       struct caller callers[VARIANTS][CALLERS], int variants)
{
    int pid = publisher_pid(b);

    for (int v = 0; v < variants; v++)
        callers_run(callers[v], CALLERS, 0.3);
    for (int round = 0; round < b->rounds; round++) {
        sql_exec(b->admin, "CHECKPOINT");
        for (int i = 0; i < variants; i++) {
            int v = (i + round) % variants;
            double wal = wal_now(b);
            uint64_t cpu_ns = tl__process_cpu_ns(pid);
            struct load load = callers_run(callers[v], CALLERS, b->round_s);

            /* one backend for all of them, or none */
            if (v == GROUP)
                load.cpu_us = (double)(tl__process_cpu_ns(pid) - cpu_ns) / 1e3 / (double)load.count;
            else if (v == REDIS)
                load.cpu_us = 0;
            figure_take(&f[v], round, &load, 1, b, wal);
            if (v == REDIS)
                f[v].wal_bytes[round] = 0;
        }
    }
    for (int v = 0; v < variants; v++)
        report_figure(&f[v]);
}

void measure_group(const struct bench *b)
{
    static struct figure f[VARIANTS];
    static struct caller callers[VARIANTS][CALLERS];
    char path[100];
    char version[32];
    char redis_name[80];
    int redis_fds[CALLERS];
    struct consumer *redis;
    tl_publisher_stats before;
    tl_publisher_stats after;
    tl_client *c;
    tl_publisher *p;

    report_section(
        "Group publish: 32 threads, each waiting until its own event is durable",
        "events/s; 32 connections, against one tl_publisher, against XADD with appendfsync always");
    if (tl_client_open(b->conninfo, TL_CLIENT_OPTIONS(.application_name = "trunkline-bench group"),
                       &c) != TL_OK ||
        tl_publisher_new(c, NULL, &p) != TL_OK)
        die("tl_publisher_new", tl_error_message(tl_client_error(c)));
    call_group(p);
    redis = redis_start(b, path, version);
    for (int i = 0; i < CALLERS; i++) {
        callers[BARE][i] = bare_caller(b);
        callers[GROUP][i] = (struct caller){p, -1, call_group};
        if (redis != NULL)
            redis_fds[i] = redis_connect(path);
        callers[REDIS][i] = (struct caller){&redis_fds[i], -1, call_redis};
    }
    f[BARE] = (struct figure){"group", "bare INSERT, 32 connections", "events/s", NULL, b->rounds};
    f[GROUP] =
        (struct figure){"group", "tl_publisher, 1 connection", "events/s", &f[BARE], b->rounds};
    if (redis != NULL) {
        snprintf(redis_name, sizeof redis_name, "Redis %s XADD, fsync always", version);
        f[REDIS] = (struct figure){"group", redis_name, "events/s", &f[BARE], b->rounds};
    }
    tl_publisher_get_stats(p, &before);
    take_turns(b, f, callers, redis != NULL ? VARIANTS : REDIS);
    tl_publisher_get_stats(p, &after);
    report_note("tl_publisher: %.1f events in a commit, %llu at most",
                (double)(after.published - before.published) /
                    (double)(after.commits - before.commits),
                (unsigned long long)after.largest_batch);
    report_ratio_min("32 callers: tl_publisher", &f[GROUP], &f[BARE], 2, "x bare INSERT");
    if (redis != NULL)
        report_ratio_min("32 callers: tl_publisher", &f[GROUP], &f[REDIS], 1, "x Redis XADD");
    for (int i = 0; i < CALLERS; i++) {
        PQfinish(callers[BARE][i].context);
        if (redis != NULL)
            close(redis_fds[i]);
    }
    tl_publisher_free(p);
    tl_client_close(c);
    if (redis != NULL)
        consumer_end(redis);
}
