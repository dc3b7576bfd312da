/*
 * bench.h: what the files of `trunkline bench` share. Variants ("sides") write the same events by
 * turns: two into a bare table, the raw limits, and one into a topic. For src/cli/bench_*.c and
 * cmd_bench.c only.
 */
#ifndef TL_CLI_BENCH_H
#define TL_CLI_BENCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libpq-fe.h>

#include <trunkline/trunkline.h>

#include "buf.h"
#include "callers.h"
#include "database.h"

#define TL__BENCH_TOPIC "trunkline_bench"
#define TL__BENCH_SCHEMA "trunkline_bench"
#define TL__BENCH_CHANNEL "trunkline_bench"
#define TL__BENCH_SUBSCRIPTION "trunkline_bench/consumer"

enum { TL__BENCH_MAX_CONNECTIONS = 256, TL__BENCH_MAX_BATCH = 10000, TL__BENCH_MAX_ROUNDS = 50 };

/* ------------------------------------------------------------------------- bench_events.c -- */

/* What is published, over and over. */
struct tl__bench_event {
    const char *type, *key;
    const char *data; /* a JSON object that is not empty */
    size_t len;
};

struct tl__bench_events {
    struct tl__bench_event *items;
    size_t count;
    struct tl__demo_event *github; /* owns what the items borrow; NULL: `text` does */
    char *text;
    double mean_bytes;
};

/* "github" or a size in bytes ("300", "4kB"). 0 or an exit code after it printed the error. */
int tl__bench_events_make(struct tl__bench_events *e, const char *payload);
void tl__bench_events_done(struct tl__bench_events *e);
/* The event's data with the time when it was due as its first member, where jsonb puts the shortest
 * name. Appends to the buffer. */
void tl__bench_stamp(struct tl__buf *to, const struct tl__bench_event *e, uint64_t due_ns);
/* That time, from the data as jsonb prints it; 0: there is none. */
uint64_t tl__bench_stamp_of(const char *data);

/* -------------------------------------------------------------------------- bench_place.c -- */

/* Where it writes: a topic and a schema of its own, made and dropped together in one transaction
 * each, so that a topic of that name is ours if and only if the schema is there with our comment. */
/* Refuses (exit code) when it may not, when another bench runs, or when there is something of that
 * name that is not ours; drops what an earlier one left. */
int tl__bench_place_make(struct tl__db *db, bool has_consumer);
int tl__bench_place_drop(struct tl__db *db);
/* `trunkline bench --clean` */
int tl__bench_place_clean(struct tl__db *db);

/* --------------------------------------------------------------------------- bench_side.c -- */

enum tl__bench_side { TL__BENCH_BARE, TL__BENCH_NOTIFY, TL__BENCH_TRUNKLINE, TL__BENCH_SIDES };
extern const char *const tl__bench_side_names[TL__BENCH_SIDES];

/* One connection, and what a thread needs to publish over it. */
struct tl__bench_connection {
    tl_client *client;
    int server_pid;
    const struct tl__bench_events *events;
    size_t next; /* event */
    size_t batch;
    enum tl__bench_side side;
    struct tl__buf data; /* of a batch, one after the other */
    struct tl__buf columns[3];
    tl_new_event *batch_events;
    tl_receipt *receipts;
    char error[512]; /* of the call that failed */
};

int tl__bench_connection_open(struct tl__bench_connection *c, const struct tl__args *args,
                              struct tl__db *db);
void tl__bench_connection_close(struct tl__bench_connection *c);
/* For tl__caller: publish one batch to the connection's side. */
bool tl__bench_call(void *connection, uint64_t due_ns);

/* ----------------------------------------------------------------------- bench_consumer.c -- */

/* A worker of the topic on a thread, and a bare LISTEN on another. */
struct tl__bench_consumer;
struct tl__bench_consumer *tl__bench_consumer_start(const struct tl__args *args, struct tl__db *db,
                                                    int *ret_rc);
void tl__bench_consumer_stop(struct tl__bench_consumer *c);
/* Wait until a side has handled so many since the start: 0 or an exit code. */
int tl__bench_consumer_wait(struct tl__bench_consumer *c, enum tl__bench_side side, uint64_t count,
                            const atomic_bool *cancel);
/* Adds the times from when each was due to its handler to `into` (NULL: to nothing) and forgets
 * them. */
void tl__bench_consumer_take_times(struct tl__bench_consumer *c, enum tl__bench_side side,
                                   struct tl__histogram *into);
/* CPU time of its sessions at the server; 0: unknown. */
uint64_t tl__bench_consumer_server_cpu_ns(const struct tl__bench_consumer *c);
/* CPU time of the session, if it runs on this machine; else 0. */
uint64_t tl__bench_server_cpu_ns(PGconn *conn, int server_pid);
int tl__bench_server_pid(PGconn *conn);

/* ------------------------------------------------------------------------- bench_report.c -- */

struct tl__bench_round {
    double per_s;         /* events */
    double server_cpu_us; /* of each event; 0: unknown */
    double client_cpu_us;
    double wal_bytes;
    double behind_ms; /* the consumer, when the last was committed */
};

struct tl__bench_result {
    uint64_t events, late;
    int rounds;
    struct tl__bench_round round[TL__BENCH_MAX_ROUNDS];
    struct tl__histogram publish, handle;
};

struct tl__bench_settings {
    int connections, rounds;
    double seconds, warmup_s, rate;
    size_t batch;
    const char *payload;
    bool has_consumer;
};

/* What is found when all is written. */
struct tl__bench_left {
    int64_t events, dead_in_topic, dead_elsewhere;
    double topic_bytes, bare_bytes; /* on disk, of each event */
    uint64_t resident_bytes;        /* of this process */
};

int tl__bench_report(struct tl__db *db, const struct tl__bench_settings *s, double mean_bytes,
                     const struct tl__bench_result *results, const struct tl__bench_left *left,
                     bool is_json);

#endif
