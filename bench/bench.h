/*
 * bench.h: what the files of trunkline-bench share. The program measures Trunkline against bare
 * PostgreSQL in one process: variants take turns (A B C A B C ...) and are compared within a turn.
 * It uses the public header, libpq and src/load, which knows no database.
 */
#ifndef BENCH_H
#define BENCH_H

#include <trunkline/trunkline.h>

#include <libpq-fe.h>

#include "callers.h"
#include "process.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define MAX_ROUNDS 50
#define MAX_CONNECTIONS 64
#define MAX_PARAMS 9
#define MAX_SAMPLES 300000

struct bench {
    const char *conninfo;
    const char *self;    /* path of this program, to start consumers */
    const char *program; /* path of trunkline; NULL: serve is not measured */
    int rounds;
    double round_s;
    int backlog;            /* events of the drain */
    const char *peers;      /* folder of what installs and drives the peers; NULL: not measured */
    int64_t log_events;     /* events of a large log */
    int64_t store_events;   /* events beside the streams that are loaded; whole millions */
    const char *message_db; /* program that installs message-db; NULL: not compared */
    double latency_round_s; /* of each rate, with and without Trunkline */
    PGconn *admin;
};

/* ---------------------------------------------------------------------------------- util.c -- */

void die(const char *what, const char *detail) __attribute__((noreturn));
void *need(void *memory);
char *argv_text(const char *constant); /* for argv, which nobody changes */

PGconn *connect_to(const char *conninfo, const char *application_name);
/* Both die on an error. */
void sql_exec(PGconn *conn, const char *sql);
char *sql_value(PGconn *conn, const char *sql); /* text of the one value, "" for NULL; free() */
int64_t sql_int(PGconn *conn, const char *sql);
/* "?" when the query fails: for what only some servers or roles can tell. */
void sql_note(const struct bench *b, const char *name, const char *sql);

double median(const double *values, int n);
double quantile(double *values, size_t n, double q); /* sorts */

/* -------------------------------------------------------------------------------- report.c -- */

/* One variant of a section: a value for each round. */
struct figure {
    const char *section;
    const char *name;
    const char *unit;
    const struct figure *base; /* compared with, round by round; NULL: is a base */
    int rounds;
    double values[MAX_ROUNDS];
    double cpu_us[MAX_ROUNDS]; /* CPU of the server's backends for each event; 0: unknown */
    double p50_ms[MAX_ROUNDS]; /* of each statement; 0: not measured, as below */
    double p99_ms[MAX_ROUNDS];
    double p999_ms[MAX_ROUNDS];
    double wal_bytes[MAX_ROUNDS]; /* of the whole server, for each event */
};

void report_open(const char *path);
void report_fact(const char *name, const char *value);
void report_section(const char *title, const char *note);
void report_figure(const struct figure *f);
/* Which set of goals the next bars belong to. */
void report_bars_of(const char *set);
void report_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
double figure_median(const struct figure *f);
double figure_ratio(const struct figure *f, const struct figure *base); /* median of rounds */
/* The ratio of two figures; the spread of the rounds goes with it. */
void report_ratio_min(const char *name, const struct figure *f, const struct figure *base,
                      double bar, const char *unit);
void report_ratio_max(const char *name, const struct figure *f, const struct figure *base,
                      double bar, const char *unit);
void report_bar_min(const char *name, double got, double bar, const char *unit);
void report_bar_max(const char *name, double got, double bar, const char *unit);
/* What was measured of a peer, in one phase. */
struct peer_line {
    const char *peer;
    const char *version;
    const char *measure;
    const char *variant;
    const char *phase;
    const char *unit;
    const char *settings; /* JSON */
    double rounds[MAX_ROUNDS];
    int n;                   /* rounds */
    double p50, p99, p999;   /* ms; all 0: none */
    int64_t dead_tuples;     /* -1: not counted */
    int64_t dead_in_log;     /* of them where events are; -1: they are everywhere */
    double wal_bytes;        /* for each event; 0: not measured */
    double client_cpu_share; /* of one CPU; 0: not measured */
};
void report_peer(const struct peer_line *l);
/* A section that gave nothing, or not all. */
void report_failure(const char *section, const char *why);
/* Table of all bars; the number missed. */
int report_close(void);

/* ---------------------------------------------------------------------------------- load.c -- */

/* A statement with its parameters; the same for each of its runs. */
struct statement {
    const char *name; /* NULL: not prepared */
    const char *sql;
    int n;
    const char *values[MAX_PARAMS];
    int lengths[MAX_PARAMS];
    int formats[MAX_PARAMS];
};

struct load {
    uint64_t count; /* statements */
    double per_s;
    double cpu_us; /* of the backends, for each statement */
    double own_cpu_share;
    double p50_ms;
    double p99_ms;
    double p999_ms;
};

/* Bytes of WAL that the server has written so far. */
double wal_now(const struct bench *b);
/* One round of a figure: statements of so many events, and the WAL since `wal_before`. */
void figure_take(struct figure *f, int round, const struct load *load, double events,
                 const struct bench *b, double wal_before);

struct pool;
struct pool *pool_open(const char *conninfo, int connections);
void pool_close(struct pool *p);
void pool_prepare(struct pool *p, const struct statement *st);
void pool_exec(struct pool *p, const char *sql); /* on every connection */
/* Every connection repeats the statement; this thread waits for all of them by epoll. */
struct load pool_run(struct pool *p, const struct statement *st, double seconds);
/* Statements that differ from run to run. */
struct source {
    /* What connection i sends next, unchanged until its result is there. */
    const struct statement *(*next)(void *context, int i);
    /* Does this result count? NULL: all do, and an error ends the program. */
    bool (*result)(void *context, int i, const PGresult *res);
    void *context;
};
struct load pool_run_source(struct pool *p, const struct source *source, double seconds);
/* Puts the time when it was to be sent into the parameters of a copy of the statement. */
typedef void (*stamp_fn)(struct statement *st, uint64_t now_ns);
/* Statements at a steady rate, whatever the answers do (open loop); commit_us gets the time until
 * each answer. Returns how many: not all when twice the time was not enough. */
size_t pool_run_paced(struct pool *p, const struct statement *st, stamp_fn stamp, int per_s,
                      double seconds, double *commit_us, size_t commit_us_size);

/* One blocking caller in each thread. */
struct caller {
    void *context;
    int backend_pid;
    void (*call)(void *context);
};
struct load callers_run(struct caller *callers, int n, double seconds);

/* ------------------------------------------------------------------------------- payload.c -- */

/* The row that everybody writes: an invoice of 300 bytes. */
extern const char event_type[];
extern const char event_tenant[];
extern const char *const invoice;
/* Add a parameter; a jsonb text begins with its version, \1. */
void statement_text(struct statement *st, const char *value); /* borrowed */
void statement_jsonb(struct statement *st, const char *versioned);
void statement_int8(struct statement *st, const char *big_endian); /* 8 bytes, borrowed */
void put_int8(char *into, int64_t value);
int64_t get_int8(const char *big_endian);
void statement_invoice(struct statement *st);
/* Add $1 type, $2 tenant, $3 data. */
void statement_row(struct statement *st);
/* Add $1 to $4 as libtrunkline's statement takes them; the same row. */
void statement_library_row(struct statement *st);
/* bench_bare: an ordinary table with the columns of an event. */
void tables_create(const struct bench *b);
/* INSERT of a statement_row() into it. */
extern const char bare_sql[];
/* It, by a connection of the caller's own: the context, for PQfinish(). */
struct caller bare_caller(const struct bench *b);
/* What libtrunkline sends for a publish, asked of the server that prepared it. */
char *library_statement(const struct bench *b);

/* ------------------------------------------------------------------------------ consumer.c -- */

/* A process of its own: "worker" of one subscription; "fanout", a worker of all those whose name
 * begins so, which counts handler calls; "listener", a bare LISTEN. */
struct consumer;
struct consumer *consumer_start(const struct bench *b, const char *kind, const char *subscription,
                                int claim_batch);
int consumer_pid(const struct consumer *c);
/* Wait until it has handled position (fanout, listener: a count): when, on tl__clock_ns(). */
uint64_t consumer_wait(struct consumer *c, int64_t upto);
struct consumed {
    int64_t events;
    uint64_t first_ns; /* first and last handler call */
    uint64_t last_ns;
    double *latency_us; /* of events with a stamp */
    size_t latencies;
};
/* Stop it; free latency_us. */
struct consumed consumer_stop(struct consumer *c);
/* main() of that process. */
int consumer_main(int argc, char **argv);
/* Another program that speaks as it does; argv ends with NULL. */
struct consumer *consumer_spawn(const char *const *argv);
/* One line of answer to one of order. */
void consumer_ask(struct consumer *c, const char *order, char *line, int size);
void consumer_end(struct consumer *c); /* when it has nothing to give */
/* In that process: an event was handled, with its stamp if it has one; and wait until fd or a
 * deadline of tl__clock_ns() / 1000, false: it is over. */
void consumer_saw(const char *data);
bool consumer_pause(int fd, uint64_t deadline_us);

/* --------------------------------------------------------------------------- peer_worker.c -- */

/* The worker of a peer that has no client of its own to be measured; false: no such peer. */
bool peer_work(const char *kind, const char *conninfo, const char *poll_ms, const char *batch);

/* ------------------------------------------------------------------------------ receiver.c -- */

/* An HTTP server on 127.0.0.1 in a thread of its own, which says 204. */
struct receiver;
struct receiver *receiver_start(void);
void receiver_stop(struct receiver *r);
int receiver_port(const struct receiver *r);
uint64_t receiver_cpu_ns(const struct receiver *r); /* of its thread */
void receiver_reset(struct receiver *r);
struct received {
    uint64_t count, signed_count;
    double per_s;     /* from the first to the last */
    const char *body; /* of the first request ever; borrowed, as latency_us is */
    size_t body_len;
    double *latency_us; /* of those with a stamp */
    size_t latencies;
};
/* Wait until so many came since the last reset. */
struct received receiver_wait(struct receiver *r, uint64_t count);

/* -------------------------------------------------------------------------------- sections -- */

/* trunkline serve on the benchmark's database, with further arguments (NULL: none). */
pid_t start_serve(const struct bench *b, const char *const *arguments);
/* Puts {"t": nanoseconds} into the data of a statement_row(). */
void stamp_data(struct statement *st, uint64_t now_ns);

void measure_publish(const struct bench *b);
void measure_publish_threads(const struct bench *b);
void measure_group(const struct bench *b);
void measure_batch(const struct bench *b);
void measure_drain(const struct bench *b);
void measure_latency(const struct bench *b);
void measure_space(const struct bench *b);
void measure_fanout(const struct bench *b);
void measure_retries(const struct bench *b);
void measure_webhook(const struct bench *b);
void measure_held(const struct bench *b);
void measure_large(const struct bench *b);
/* So many events, by tl_publish_batch. */
void publish_backlog(const struct bench *b, const char *topic, int count);
/* Events a second of one worker from a backlog of `events` to nothing, counted from its first handler
 * call on. */
double drain_backlog(const struct bench *b, const char *topic, int64_t after, int64_t last,
                     int events, int claim_batch);
/* By pg_stat_user_tables, of the tables of Trunkline that match; sessions tell it when they end. */
int64_t dead_rows(const struct bench *b, const char *pattern);
/* A worker consumes everything of the bus while the load runs; returns how long after its end it was
 * done with all, in ms. */
double run_with_worker(const struct bench *b, struct pool *pool, const struct statement *st,
                       struct load *ret);
/* Events at a steady rate to a worker, for the usual time; times in us. */
struct samples {
    double latency_us[MAX_SAMPLES];
    size_t n;
    double commit_us[MAX_SAMPLES];
    size_t commits;
};
void run_paced(const struct bench *b, struct pool *pool, const struct statement *st, int per_s,
               struct samples *s, struct figure *f, int round);
/* INSERT into the topic bus. */
extern const char topic_sql[];
void measure_schedule(const struct bench *b);
void measure_store(const struct bench *b);
void measure_append(const struct bench *b);
void measure_peers(const struct bench *b);

#endif
