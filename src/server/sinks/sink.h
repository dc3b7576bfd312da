/*
 * sink.h: what every kind of target looks like to the daemon. A sink knows how to hand one event to
 * one target; it knows nothing of subscriptions, leases, retries or other sinks. It may use the
 * libuv loop it is given and must never block it; a sink that has to (sqlfunction) says so and gets
 * a loop of its own.
 */
#ifndef TL_SERVER_SINK_H
#define TL_SERVER_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include <trunkline/trunkline.h>

/* The same words for every sink. */
enum tl__sink_word {
    TL__SINK_DELIVERED,
    TL__SINK_RETRY,  /* again later */
    TL__SINK_REJECT, /* this event: never */
    TL__SINK_SKIP,   /* not for this target: settled */
    TL__SINK_FATAL,  /* this target: not until somebody repairs it; the event is tried again then */
};

/* What there is to say of a request to a webhook, for the log of attempts. */
struct tl__sink_attempt {
    const char *url; /* without secrets */
    int status;      /* of HTTP; 0: no answer */
    const char *response;
    size_t response_len;
    int64_t started_at_us;
    uint64_t duration_us;
};

struct tl__sink_result {
    enum tl__sink_word word;
    /* With RETRY: what the target asked for, which the subscription's policy bounds, and what is
     * too soon in any case; 0: nothing. */
    uint64_t wish_us, floor_us;
    const char *error;   /* kept with the delivery; copied by done; NULL with DELIVERED */
    const char *summary; /* the same for the log: nothing that the target said; NULL: as error */
    const struct tl__sink_attempt *attempt; /* NULL: none worth a log */
};

struct tl__sink_event {
    const char *id, *type;
    const char *source, *stream, *key, *tenant_id; /* NULL: none */
    const char *data, *metadata;                   /* JSON; metadata may be NULL */
    size_t data_len, metadata_len;
    int64_t position, version, created_at_us, expires_at_us; /* 0: none */
};

/* One event on its way. Made by the daemon, valid until done is called. */
struct tl__sink_delivery {
    const char *id; /* the same on every attempt */
    const char *subscription;
    struct tl__sink_event event;
    uint32_t attempt; /* 0: by hand, outside of any order */
    const char *body; /* the event as one line of JSON */
    size_t body_len;
    uint64_t timeout_us; /* the subscription's; 0: that of the daemon */
    tl_tx *tx;           /* NULL unless the kind is transactional */
    /* Exactly once, inside deliver or later on the loop's thread. */
    void (*done)(struct tl__sink_delivery *delivery, const struct tl__sink_result *result);
    void *sink_data; /* the sink's */
};

struct tl__netguard;

/* What a kind may need; one for each loop. */
struct tl__sink_env {
    uv_loop_t *loop;
    const struct tl__netguard *guard;
    uint64_t webhook_timeout_us, exec_timeout_us;
    bool allow_exec, is_https_only;
    const char *webhook_ca_file; /* further authorities; NULL: none */
    void *shared;                /* of the kind, made by start */
};

/* Borrowed during open. */
struct tl__sink_target {
    const char *target;
    const char *call; /* SQL text of a sql: target; NULL: no such function */
    const char *role; /* whose rights it has; "": the daemon's own; NULL: they are out of reach */
    /* Of webhooks: keys divided by spaces (NULL: none), further headers as lines (NULL: none), and
     * the form: plain, cloudevents, cloudevents-binary; NULL: nobody may know the keys. */
    const char *secrets, *headers, *format;
};

struct tl__sink; /* one target; each kind has its own */

struct tl__sink_kind {
    const char *name;
    const char *const *prefixes; /* of targets, ends with NULL */
    bool is_transactional;       /* deliveries have a tx; deliver may block */
    /* Once for each loop: what all sinks of the kind share. NULL: nothing. stop is called when no
     * sink is left; its handles close before the loop ends. */
    void *(*start)(const struct tl__sink_env *env);
    void *(*stop)(void *shared);
    /* On failure NULL and *ret_problem, static text. */
    struct tl__sink *(*open)(const struct tl__sink_env *env, const struct tl__sink_target *what,
                             const char **ret_problem);
    void (*deliver)(struct tl__sink *sink, struct tl__sink_delivery *delivery);
    /* End what is in flight without a result (an immediate stop); NULL: nothing runs outside. */
    void (*abort)(const struct tl__sink_env *env);
    struct tl__sink *(*close)(struct tl__sink *sink); /* nothing is in flight; returns NULL */
};

extern const struct tl__sink_kind tl__sink_webhook, tl__sink_sqlfunction, tl__sink_exec;

#endif
