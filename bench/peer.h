/*
 * peer.h: a system that is measured beside Trunkline, and Trunkline itself as the first of them.
 * peer.c knows how each is installed, filled and consumed; peers.c measures.
 */
#ifndef PEER_H
#define PEER_H

#include "bench.h"

/* One way to consume. */
struct preset {
    const char *name;
    const char *settings; /* JSON; of a worker in Node.js its very options */
    int batch;
    int poll_ms;       /* of our worker for it */
    const char *kind;  /* of consumer_main(), when not the peer's id */
    int per_mille;     /* of the backlog that it gets through in reasonable time */
    const char *queue; /* suffix of its statements: "", "_live" */
};

#define MAX_PRESETS 4
struct peer {
    const char *id; /* of bench/peers/install */
    const char *name;
    const char *tables; /* regular expression of schema.table: where dead tuples are counted */
    const char *log;    /* of them, those with the events; NULL: there are no others */
    struct preset live; /* real time: latency, and beside publishers */
    struct preset presets[MAX_PRESETS]; /* of a backlog, the best first */

    bool is_ours;
    bool is_node;
    bool has_client;    /* that publishes */
    bool is_unprepared; /* its client sends its statements so, and SQL to be called it has not */
    bool is_there;
    char version[163]; /* or why it is not there */
    struct statement publish;
    struct statement publish_live; /* for preset live */
    struct statement batch, batch_live;
    struct statement bulk; /* a quicker way than its function; .sql NULL: none */
};

enum { PEER_COUNT = 6 };
extern struct peer peers[PEER_COUNT];

void peers_install(const struct bench *b);
/* Statement of bench_peers, all of it at once; none: nothing. */
void peer_exec(const struct bench *b, const struct peer *p, const char *kind);
/* Before events that this consumer is to see; ours: the position. */
int64_t peer_begin(const struct bench *b, const struct peer *p);
void peer_fill(const struct bench *b, const struct peer *p, const struct preset *how, int events);
struct consumer *peer_worker(const struct bench *b, const struct peer *p, const struct preset *how,
                             int64_t after);
/* Until it has handled so many since peer_begin(): when. */
uint64_t peer_wait(const struct bench *b, const struct peer *p, struct consumer *c, int64_t events);
struct consumed peer_stop(const struct bench *b, const struct peer *p, struct consumer *c);
void peer_dead_tuples(const struct bench *b, const struct peer *p, struct peer_line *l);
/* What autovacuum does sooner or later. */
void peer_vacuum(const struct bench *b, const struct peer *p);

/* Its client, as 32 callers in one process. */
struct consumer *peer_publisher(const struct bench *b, const struct peer *p);
struct load peer_publisher_run(struct consumer *c, double seconds);

/* pgqd, looking so often; NULL: no PgQ. */
struct consumer *ticker_start(const struct bench *b, const char *seconds);

/* Add $1: the payload a thousand times, text[]. */
void statement_payloads(struct statement *st);
void peer_line_start(struct peer_line *l, const struct peer *p, const char *measure,
                     const char *variant, const char *phase, const char *settings);
/* Backlog and latency, in all phases; b->rounds turns. */
void measure_consume_peers(const struct bench *b);
/* How PgQ is without tuning; nothing when there is but one turn. */
void measure_default_ticker(const struct bench *b);

#endif
