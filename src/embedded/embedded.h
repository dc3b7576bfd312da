/*
 * embedded.h: a private PostgreSQL that trunkline makes, starts, shares and stops by itself.
 *
 * For the program (command line and daemon) only; it is no part of libtrunkline. It blocks, prints
 * nothing, changes no signal handler, and expects SIGCHLD not to be ignored. It knows nothing of
 * events and schemas: what it gives is a conninfo of an empty database `trunkline`.
 *
 * Files
 *   DIR is mode 0700 and owned by the user the server runs as: the caller, or as root `postgres`
 *   (`nobody` where there is no such user). Nothing is ever written to a directory that is neither
 *   empty nor marked as ours.
 *     DIR/trunkline.lock   marks the directory as ours; its lock is the decision lock
 *     DIR/users.lock       its lock is held, shared, by everyone attached
 *     DIR/server.lock      its lock is held by every process of the server, and of initdb
 *     DIR/stopping         there while somebody stops the server
 *     DIR/data             the cluster. Made as data.tmp, complete with role and database, synced,
 *                          then renamed: what is called `data` is whole
 *     DIR/run              the socket, unless its path would be too long: then it lives in
 *                          $XDG_RUNTIME_DIR, /run (root) or /tmp, in trunkline-UID/HASH
 *     DIR/server.log       server log, without statements and values; at most 8 MiB and one old one
 *
 * Who may connect
 *   No TCP. The socket stands in a directory of mode 0700 that belongs to the server's user, and
 *   pg_hba.conf admits by peer credentials: the user who made the cluster, the server's user, no
 *   one else. The role `trunkline` owns the database `trunkline` and is no superuser; the same
 *   people may connect as the superuser `postgres`.
 *
 * Sharing: the protocol
 *   All locks are flock(2) locks: the kernel drops them when their holder dies, however it dies.
 *   1. Start, adopt and stop happen only under the exclusive decision lock.
 *   2. Attach: take the decision lock, take `users` shared, make sure the server runs and answers
 *      (adopt a live one, wait for one that starts or recovers, else start one), release the
 *      decision lock. `users` stays held until close.
 *   3. Close: take the decision lock, give up `users`, try it exclusively. If that fails others are
 *      attached: the server stays. If it succeeds nobody is, and nobody can attach before the
 *      decision lock is free: make `stopping`, stop the server, remove `stopping`.
 *   4. Whoever finds `stopping` while holding the decision lock knows that a closer was killed
 *      half-way. It finishes the stop, then starts anew; so nobody attaches to a server that is
 *      already told to go.
 *   5. The server runs in a session of its own and keeps no file of its starter but `server.lock`.
 *      When its users are killed it runs on; the next one to attach adopts it, and stops it in the
 *      end. `server.lock` can be had only when no process of the server is left, so a new server
 *      never meets backends of a killed one, and initdb never meets another initdb.
 *   So `trunkline serve` keeps the server for as long as it lives by being attached, other commands
 *   attach meanwhile, and whoever leaves last stops it. Connections made by anyone else do not
 *   count as users.
 */
#ifndef TL_EMBEDDED_H
#define TL_EMBEDDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <trunkline/trunkline.h>

/* Directory limit: room for what PostgreSQL puts below it. */
#define TL__EMBEDDED_DIR_BYTES 800

typedef struct tl__embedded tl__embedded;

/* Caller's memory, written by a call that fails; "" where there is nothing to say. */
typedef struct tl__embedded_error {
    tl_status status;
    char message[1200];
    char detail[2400]; /* may have several lines: the end of the server's log */
    char hint[600];
} tl__embedded_error;

/* Told when a wait begins that people notice. */
typedef enum tl__embedded_phase {
    TL__EMBEDDED_INITIALISING, /* "initialising private PostgreSQL" */
    TL__EMBEDDED_STARTING,
    TL__EMBEDDED_RECOVERING, /* the server replays its log after a crash */
    TL__EMBEDDED_WAITING,    /* another process is starting or stopping the server */
    TL__EMBEDDED_STOPPING,
} tl__embedded_phase;

/* Set size; zero is the default of every other member. */
typedef struct tl__embedded_options {
    size_t size;
    const char *dir;          /* NULL: $TRUNKLINE_DATA_DIR, else tl__embedded_default_dir() */
    const char *bindir;       /* NULL: $TRUNKLINE_PG_BINDIR, else search */
    uint64_t timeout_us;      /* until the server answers, recovery included; 0: 10 minutes */
    uint64_t stop_timeout_us; /* of a fast stop; then an immediate one; 0: 60 s */
    void (*progress)(tl__embedded_phase phase, const char *text, void *userdata);
    void *userdata;
} tl__embedded_options;

/**
 * The data directory that open would use: $TRUNKLINE_DATA_DIR, else pgNN in $XDG_DATA_HOME/trunkline
 * (~/.local/share/trunkline), as root in /var/lib/trunkline. NN is the newest for which data exists,
 * else the major version of the server programs found: installing a newer server hides no data.
 *
 * @return TL_E_NOTFOUND     no server programs, and what to install.
 *         TL_E_UNSUPPORTED  the data needs another major version than the programs found.
 */
TL_MUSTCHECK tl_status tl__embedded_default_dir(const tl__embedded_options *opts, char *ret_dir,
                                                size_t size, tl__embedded_error *err);

/**
 * Attach to the private PostgreSQL; make and start it first where needed.
 *
 * @return TL_OK once it answers.
 *         TL_E_NOTFOUND     no server programs.
 *         TL_E_UNSUPPORTED  data of another major version. Nothing touched.
 *         TL_E_DENIED       directory of another owner, open to others, or (as root) a symlink.
 *                           Nothing touched.
 *         TL_E_INVALID      the directory is not ours and not empty (nothing touched), or a bad name.
 *         TL_E_SERVER       initdb or the server failed; detail has the end of its log.
 *         TL_E_TIMEOUT      the server still recovers, or does not answer; it is left as it is.
 * Blocks: up to timeout_us. Owns: keeps nothing you passed but progress and userdata.
 * Threads: one at a time per handle.
 */
TL_MUSTCHECK tl_status tl__embedded_open(const tl__embedded_options *opts, tl__embedded **ret,
                                         tl__embedded_error *err);

/**
 * After a lost connection: make sure that the server runs, and restart it if it died. Cheap when
 * it runs. The conninfo may change (another runtime directory): ask for it again.
 *
 * @return as tl__embedded_open; the handle stays attached also on failure.
 */
TL_MUSTCHECK tl_status tl__embedded_ensure(tl__embedded *e, tl__embedded_error *err);

/**
 * Detach, and stop the server if nobody else is attached. Takes NULL.
 *
 * @param err  status TL_OK when all went well, else what did not. May be NULL.
 * @return NULL.
 * Blocks: up to stop_timeout_us and 15 s.
 */
tl__embedded *tl__embedded_close(tl__embedded *e, tl__embedded_error *err);

/**
 * Stop a server that nobody is attached to, such as one whose users were killed.
 *
 * @return TL_OK stopped; TL_NOTHING none runs; TL_E_CONFLICT somebody is attached: it runs on.
 */
TL_MUSTCHECK tl_status tl__embedded_stop(const tl__embedded_options *opts, tl__embedded_error *err);

/* Borrowed until the next call on the handle. */
const char *tl__embedded_conninfo(const tl__embedded *e); /* for libpq; no secret in it */
const char *tl__embedded_dir(const tl__embedded *e);
pid_t tl__embedded_server_pid(const tl__embedded *e); /* 0: not visible from here */
bool tl__embedded_was_started(const tl__embedded *e); /* by this handle, not adopted */

#endif
