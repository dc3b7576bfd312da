/*
 * serve.h: the daemon, as the command line starts it. The one header of src/server that others may
 * include.
 */
#ifndef TL_SERVER_SERVE_H
#define TL_SERVER_SERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <trunkline/trunkline.h>

/* All text is borrowed until tl__serve_run returns. */
struct tl__serve_options {
    const char *conninfo;
    tl_client_options client;      /* schema, application name; .log is the daemon's own */
    const char *shown_database;    /* for the log: without secrets */
    uint32_t concurrency;          /* deliveries in flight of each subscription */
    uint64_t webhook_timeout_us;   /* of a request */
    uint64_t exec_timeout_us;      /* of a command */
    uint64_t lease_us;             /* of a claim: how soon others take over after a crash */
    uint64_t stop_timeout_us;      /* how long deliveries in flight may take on after a stop */
    uint64_t maintain_interval_us; /* between two calls of maintain() by the leader */
    const char *webhook_allow;     /* addresses and hosts webhooks may reach besides public ones */
    const char *webhook_ca_file; /* authorities of certificates besides the system's; NULL: none */
    bool allow_private;          /* webhooks may reach any address */
    bool is_https_only;          /* no webhooks to http: */
    bool allow_exec;             /* run exec: targets */
    bool is_log_json;
    tl_log_level log_level;
    /* Make sure the database server runs (embedded); called from another thread when the
     * connection is lost. NULL: nothing to do. */
    void (*ensure_database)(void *userdata);
    void *userdata;
};

/**
 * Serve until SIGTERM or SIGINT. The schema must be current.
 *
 * @return TL_OK after a clean drain; TL_E_TIMEOUT when deliveries were still running at
 *         stop_timeout_us; TL_E_CANCELLED after a second signal; else what went wrong, logged.
 */
TL_MUSTCHECK tl_status tl__serve_run(const struct tl__serve_options *options);

#endif
