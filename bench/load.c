/*
 * load.c: many clients without many threads: one thread, epoll, asynchronous libpq, so that the
 * measuring takes little from the two sides measured. And blocking callers, one a thread, for what
 * can only be called so.
 */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

struct pool {
    int n;
    int epoll_fd;
    PGconn *conns[MAX_CONNECTIONS];
    bool is_busy[MAX_CONNECTIONS];
    uint64_t sent_ns[MAX_CONNECTIONS];
    struct tl__histogram times;
};

/* ------------------------------------------------------------------------------------ pool -- */

struct pool *pool_open(const char *conninfo, int connections)
{
    struct pool *p = need(calloc(1, sizeof *p));

    p->n = connections;
    p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < p->n; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};

        p->conns[i] = connect_to(conninfo, "trunkline-bench load");
        PQsetnonblocking(p->conns[i], 1);
        if (epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, PQsocket(p->conns[i]), &event) != 0)
            die("epoll", "cannot add a connection");
    }
    return p;
}

void pool_close(struct pool *p)
{
    for (int i = 0; i < p->n; i++)
        PQfinish(p->conns[i]);
    free(p);
}

void pool_prepare(struct pool *p, const struct statement *st)
{
    for (int i = 0; i < p->n && st->name != NULL; i++) {
        PGresult *res = PQprepare(p->conns[i], st->name, st->sql, 0, NULL);

        if (PQresultStatus(res) != PGRES_COMMAND_OK)
            die(st->sql, PQerrorMessage(p->conns[i]));
        PQclear(res);
    }
}

static uint64_t pool_cpu_ns(const struct pool *p)
{
    uint64_t sum = 0;

    for (int i = 0; i < p->n; i++)
        sum += tl__process_cpu_ns(PQbackendPID(p->conns[i]));
    return sum;
}

void pool_exec(struct pool *p, const char *sql)
{
    for (int i = 0; i < p->n; i++)
        sql_exec(p->conns[i], sql);
}

static void send(struct pool *p, int i, const struct statement *st)
{
    p->sent_ns[i] = tl__clock_ns();
    p->is_busy[i] = true;
    if (!(st->name != NULL ? PQsendQueryPrepared(p->conns[i], st->name, st->n, st->values,
                                                 st->lengths, st->formats, 1)
                           : PQsendQueryParams(p->conns[i], st->sql, st->n, NULL, st->values,
                                               st->lengths, st->formats, 1)) ||
        PQflush(p->conns[i]) != 0) /* a few hundred bytes always fit */
        die("send", PQerrorMessage(p->conns[i]));
}

/* True: the statement is complete; *ret_counts (true before): as the source says of its result. */
static bool receive(struct pool *p, int i, const struct source *source, bool *ret_counts)
{
    PGresult *res;

    if (!PQconsumeInput(p->conns[i]))
        die("receive", PQerrorMessage(p->conns[i]));
    while (p->is_busy[i] && !PQisBusy(p->conns[i])) {
        res = PQgetResult(p->conns[i]);
        if (res == NULL)
            p->is_busy[i] = false;
        else if (source != NULL && source->result != NULL)
            *ret_counts = source->result(source->context, i, res);
        else if (PQresultStatus(res) != PGRES_TUPLES_OK)
            die("statement", PQerrorMessage(p->conns[i]));
        PQclear(res);
    }
    return !p->is_busy[i];
}

static const struct statement *same_statement(void *context, int connection)
{
    (void)connection;
    return context;
}

static double quantile_ms(const struct tl__histogram *h, double q)
{
    return (double)tl__histogram_quantile(h, q) / 1e6;
}

double wal_now(const struct bench *b)
{
    return (double)sql_int(b->admin, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn");
}

void figure_take(struct figure *f, int round, const struct load *load, double events,
                 const struct bench *b, double wal_before)
{
    f->values[round] = load->per_s * events;
    f->cpu_us[round] = load->cpu_us / events;
    f->p50_ms[round] = load->p50_ms;
    f->p99_ms[round] = load->p99_ms;
    f->p999_ms[round] = load->p999_ms;
    f->wal_bytes[round] = (wal_now(b) - wal_before) / ((double)load->count * events);
}

struct load pool_run(struct pool *p, const struct statement *st, double seconds)
{
    union {
        const struct statement *in;
        void *out;
    } constant = {.in = st};

    return pool_run_source(p, &(struct source){same_statement, NULL, constant.out}, seconds);
}

struct load pool_run_source(struct pool *p, const struct source *source, double seconds)
{
    uint64_t server_cpu_ns = pool_cpu_ns(p);
    uint64_t cpu_ns = tl__own_cpu_ns();
    uint64_t start_ns = tl__clock_ns();
    uint64_t end_ns = start_ns + (uint64_t)(seconds * 1e9);
    uint64_t now_ns;
    uint64_t count = 0;
    int running = p->n;

    p->times = (struct tl__histogram){0};
    for (int i = 0; i < p->n; i++)
        send(p, i, source->next(source->context, i));
    while (running > 0) {
        struct epoll_event events[MAX_CONNECTIONS];
        int n = epoll_wait(p->epoll_fd, events, MAX_CONNECTIONS, 10000);

        if (n <= 0 && errno != EINTR)
            die("load", "no answer from the server for 10 s");
        for (int e = 0; e < n; e++) {
            int i = (int)events[e].data.u32;
            bool is_counted = true;

            if (!p->is_busy[i] || !receive(p, i, source, &is_counted))
                continue;
            count += is_counted;
            now_ns = tl__clock_ns();
            tl__histogram_add(&p->times, now_ns - p->sent_ns[i], 1);
            if (now_ns < end_ns)
                send(p, i, source->next(source->context, i));
            else
                running--;
        }
    }
    now_ns = tl__clock_ns();
    return (struct load){
        .count = count,
        .per_s = (double)count * 1e9 / (double)(now_ns - start_ns),
        .cpu_us = (double)(pool_cpu_ns(p) - server_cpu_ns) / 1e3 / (double)(count > 0 ? count : 1),
        .own_cpu_share = (double)(tl__own_cpu_ns() - cpu_ns) / (double)(now_ns - start_ns),
        .p50_ms = quantile_ms(&p->times, 0.5),
        .p99_ms = quantile_ms(&p->times, 0.99),
        .p999_ms = quantile_ms(&p->times, 0.999),
    };
}

size_t pool_run_paced(struct pool *p, const struct statement *st, stamp_fn stamp, int per_s,
                      double seconds, double *commit_us, size_t commit_us_size)
{
    uint64_t gap_ns = 1000000000u / (uint64_t)per_s;
    size_t total = (size_t)(seconds * per_s);
    uint64_t next_ns = tl__clock_ns() + gap_ns;
    uint64_t give_up_ns = next_ns + (uint64_t)(2 * seconds * 1e9);
    size_t sent = 0;
    size_t done = 0;

    while (done < total) {
        struct epoll_event events[MAX_CONNECTIONS];
        uint64_t now_ns = tl__clock_ns();
        struct timespec wait = {0};
        int n;

        if (now_ns > give_up_ns)
            total = sent;
        if (done == total)
            break;
        for (int i = 0; i < p->n && sent < total && next_ns <= now_ns; i++) {
            struct statement stamped = *st;

            if (p->is_busy[i])
                continue;
            stamp(&stamped, next_ns); /* a late one has waited since then */
            send(p, i, &stamped);
            sent++;
            next_ns += gap_ns;
        }
        now_ns = tl__clock_ns();
        if (sent == total || sent - done == (size_t)p->n)
            wait.tv_sec = 10;
        else if (next_ns > now_ns)
            wait.tv_nsec = (long)(next_ns - now_ns);
        n = epoll_pwait2(p->epoll_fd, events, MAX_CONNECTIONS, &wait, NULL);
        if (n == 0 && wait.tv_sec > 0)
            die("load", "no answer from the server for 10 s");
        for (int e = 0; e < n; e++) {
            int i = (int)events[e].data.u32;

            if (!p->is_busy[i] || !receive(p, i, NULL, NULL))
                continue;
            if (done < commit_us_size)
                commit_us[done] = (double)(tl__clock_ns() - p->sent_ns[i]) / 1e3;
            done++;
        }
    }
    return done;
}

/* --------------------------------------------------------------------------------- callers -- */

static bool call(void *context, uint64_t due_ns)
{
    const struct caller *caller = context;

    (void)due_ns;
    caller->call(caller->context);
    return true;
}

static uint64_t callers_cpu_ns(const struct caller *callers, int n)
{
    uint64_t sum = 0;

    for (int i = 0; i < n; i++)
        sum += tl__process_cpu_ns(callers[i].backend_pid);
    return sum;
}

struct load callers_run(struct caller *callers, int n, double seconds)
{
    uint64_t server_cpu_ns = callers_cpu_ns(callers, n);
    struct tl__caller blocking[MAX_CONNECTIONS] = {0};
    static struct tl__histogram times;
    struct tl__calls calls;

    for (int i = 0; i < n; i++)
        blocking[i] = (struct tl__caller){&callers[i], call};
    times = (struct tl__histogram){0};
    calls = tl__callers_run(blocking, n, &(struct tl__callers_run){.seconds = seconds}, &times);
    if (!calls.is_ok)
        die("threads", "cannot start one");
    return (struct load){
        .count = calls.count,
        .per_s = (double)calls.count * 1e9 / (double)calls.elapsed_ns,
        .cpu_us = (double)(callers_cpu_ns(callers, n) - server_cpu_ns) / 1e3 / (double)calls.count,
        .own_cpu_share = (double)calls.cpu_ns / (double)calls.elapsed_ns,
        .p50_ms = quantile_ms(&times, 0.5),
        .p99_ms = quantile_ms(&times, 0.99),
        .p999_ms = quantile_ms(&times, 0.999),
    };
}
