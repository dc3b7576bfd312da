/*
 * trunkline.h: the whole public interface of libtrunkline; the event store's part is in store.h, that of
 * live subscriptions in live.h, that of group publish in publisher.h, which it includes.
 *
 * Trunkline is one log in PostgreSQL that is both an event bus and an event store. This header is
 * the authority: what is not in it is not API. It is clean C99 and C++.
 *
 * Conventions
 *   - Every call that can fail returns a tl_status: 0 is success, > 0 tells something that is no
 *     failure (nothing there), < 0 is an error whose detail is in tl_client_error().
 *   - ret_x is an output, written on success only.
 *   - Text is UTF-8 and ends in NUL unless a length stands beside it. NULL means "absent".
 *   - Options are plain structs that start with their size; build them with the macro of the same
 *     name in capitals: tl_publish_batch(c, NULL, e, n, NULL) or TL_READ_OPTIONS(.limit = 10).
 *     Zero is the default of every member. The call copies what it needs.
 *   - Times are microseconds: *_us durations, *_at_us points in time since 1970 (UTC).
 *   - A client is used by one thread at a time; clients are independent of each other. Only
 *     tl_worker_stop(), tl_client_wake() and tl_client_cancel() may be called from another thread, and the
 *     calls on a tl_publisher from many at once.
 *   - The library starts no threads, installs no signal handlers, prints nothing.
 */
#ifndef TRUNKLINE_H
#define TRUNKLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TL_MUSTCHECK __attribute__((warn_unused_result))
#define TL_API __attribute__((visibility("default")))
#else
#define TL_MUSTCHECK
#define TL_API
#endif

/* libpq's connection, so that this header does not need libpq-fe.h. */
struct pg_conn;
struct pg_result;

/* ---------------------------------------------------------------------------------- limits -- */

#define TL_MAX_TYPE_BYTES 255      /* event type, pattern, stream, key, topic... see each call */
#define TL_MAX_NAME_BYTES 255      /* subscription name, source, key, tenant_id, stream */
#define TL_MAX_TOPIC_BYTES 40      /* topic: [a-z_][a-z0-9_]* */
#define TL_MAX_EVENT_BYTES 1048576 /* default of a topic's max_event_bytes, the limit of data */
#define TL_MAX_CLAIM 10000         /* events in one claim or read */

/* ---------------------------------------------------------------------------------- status -- */

/*
 * One table: name, value, SQLSTATE that SQL raises for it (several more map to it), HTTP status,
 * exit code of the program, what it means. Reference: docs/reference/errors.md.
 */
#define TL_STATUS_MAP(X)                                                                           \
    X(TL_OK, 0, "00000", 200, 0, "success")                                                        \
    X(TL_NOTHING, 1, "02000", 204, 0, "nothing there")                                             \
    X(TL_E_INVALID, -1, "TL005", 400, 2, "invalid argument: fix the call")                         \
    X(TL_E_NOMEM, -2, "53200", 503, 71, "out of memory: free some and retry")                      \
    X(TL_E_CONNECTION, -3, "08006", 503, 3, "no connection: reconnect, retry with the same ids")   \
    X(TL_E_CONFLICT, -4, "TL001", 409, 4, "conflict: reload and decide")                           \
    X(TL_E_NOTFOUND, -5, "TL002", 404, 5, "not found: create it or skip")                          \
    X(TL_E_LIMIT, -6, "TL007", 413, 6, "limit reached: send less or back off")                     \
    X(TL_E_TIMEOUT, -7, "57014", 504, 7, "timed out: retry or give up")                            \
    X(TL_E_CANCELLED, -8, "57014", 499, 8, "cancelled: stop")                                      \
    X(TL_E_SERVER, -9, "XX000", 500, 9, "server error: look at the sqlstate")                      \
    X(TL_E_SCHEMA, -10, "TL006", 503, 10, "schema missing or of another version: migrate")         \
    X(TL_E_FENCED, -11, "TL004", 409, 11, "fenced: another owner holds the lease")                 \
    X(TL_E_CLOSED, -12, "08003", 409, 12, "closed: open again")                                    \
    X(TL_E_DENIED, -13, "42501", 403, 13, "denied: ask for the right")                             \
    X(TL_E_REJECTED, -14, "TL008", 422, 14, "rejected by the domain")                              \
    X(TL_E_UNSUPPORTED, -15, "0A000", 501, 15, "not supported here")

typedef enum tl_status {
#define TL_STATUS_ENUM_(name, value, sqlstate, http, exit_code, text) name = value,
    TL_STATUS_MAP(TL_STATUS_ENUM_)
#undef TL_STATUS_ENUM_
} tl_status;

/** Name of a status as it stands in this header ("TL_E_INVALID"), "TL_E_?" for no such status. */
TL_API const char *tl_status_name(tl_status status);
/** One line for people, never NULL. */
TL_API const char *tl_status_text(tl_status status);
/** Exit code that the program uses for this status. */
TL_API int tl_status_exit_code(tl_status status);

/** "0.1.0" of the library that is running. */
TL_API const char *tl_version(void);
/** Free what a *_dup or *_take call gave. NULL is fine. */
TL_API void tl_free(void *p);

/* ----------------------------------------------------------------------------------- error -- */

/* Detail of the last failure of a handle; borrowed until the next call on that handle. */
typedef struct tl_error tl_error;

TL_API tl_status tl_error_status(const tl_error *e);
TL_API const char *tl_error_message(const tl_error *e);  /* never NULL, "" when none */
TL_API const char *tl_error_detail(const tl_error *e);   /* "" when none; JSON for TL* states */
TL_API const char *tl_error_hint(const tl_error *e);     /* "" when none */
TL_API const char *tl_error_sqlstate(const tl_error *e); /* five characters, "" without a server */
TL_API bool tl_error_is_retriable(const tl_error *e);    /* the same call may succeed later */
TL_API bool tl_error_is_fatal(const tl_error *e);        /* this handle will not recover */
/* true when the connection died while a commit was on its way: the work may be stored or not.
 * Repeat it with the same event ids; it is then stored once. Never read it as "failed". */
TL_API bool tl_error_outcome_unknown(const tl_error *e);
/* Index of the element of a batch that is to blame, -1 when none is known. */
TL_API int64_t tl_error_index(const tl_error *e);
/* Free an error that a call without a handle gave (tl_publish_in). Returns NULL. */
TL_API tl_error *tl_error_free(tl_error *e);

/* ---------------------------------------------------------------------------------- client -- */

typedef struct tl_client tl_client;

typedef enum tl_log_level { TL_LOG_ERROR, TL_LOG_WARN, TL_LOG_INFO, TL_LOG_DEBUG } tl_log_level;
typedef void (*tl_log_fn)(tl_log_level level, const char *message, void *userdata);

typedef struct tl_client_options {
    size_t size;
    const char *schema;           /* NULL: "trunkline" */
    const char *application_name; /* NULL: what the conninfo says, else "libtrunkline" */
    uint64_t connect_timeout_us;  /* 0: 10 s */
    /* limit of each call; 0: 30 s. The server is asked to cancel then: one that is stopped (SIGSTOP) and
     * takes no request holds the call until it goes on or the connection breaks. */
    uint64_t timeout_us;
    uint64_t reconnect_base_us;  /* first pause of worker and waiter reconnects; 0: 100 ms */
    uint64_t reconnect_cap_us;   /* longest pause; 0: 30 s */
    uint32_t reconnect_attempts; /* 0: for ever; else a worker gives up with TL_E_CONNECTION */
    tl_log_fn log;               /* NULL: silent */
    void *log_userdata;
    uint64_t poll_interval_us; /* fallback poll of tl_client_wait and live subscriptions; 0: 1 s */
    bool no_listen;            /* these two never LISTEN: poll only (transaction-pooling proxies) */
} tl_client_options;
#define TL_CLIENT_OPTIONS(...)                                                                     \
    (&(tl_client_options){.size = sizeof(tl_client_options), __VA_ARGS__})

/**
 * Open a client: connect and check that the schema is there and of a version that this library
 * speaks. Nothing in the database is changed.
 *
 * @param conninfo  libpq connection string or URI; NULL or "" for libpq's environment.
 * @param ret       the handle, also on failure (to ask tl_client_error); close it in both cases.
 *                  NULL only when there is no memory for it.
 * @return TL_OK; TL_E_CONNECTION; TL_E_SCHEMA (run `trunkline migrate`); TL_E_DENIED; TL_E_INVALID;
 *         TL_E_NOMEM.
 * Blocks: up to connect_timeout_us.
 */
TL_API TL_MUSTCHECK tl_status tl_client_open(const char *conninfo, const tl_client_options *opts,
                                             tl_client **ret);
/** The same without the schema check, for tl_migrate_* on a database that has no schema yet. */
TL_API TL_MUSTCHECK tl_status tl_client_open_unchecked(const char *conninfo,
                                                       const tl_client_options *opts,
                                                       tl_client **ret);
/** Close and free, live subscriptions with it; takes NULL and half-open handles; returns NULL. Called
 * by a handler of a live subscription of c it does nothing and returns c. */
TL_API tl_client *tl_client_close(tl_client *c);
/** Detail of the last failure; borrowed until the next call on c. Never NULL for a handle. */
TL_API const tl_error *tl_client_error(const tl_client *c);
/** Borrowed libpq connection (until the next call on c, which may reconnect). May be NULL. */
TL_API struct pg_conn *tl_client_pgconn(tl_client *c);
/** Schema name, unquoted. */
TL_API const char *tl_client_schema(const tl_client *c);
/** Cancel the call in progress from another thread: it returns TL_E_CANCELLED. */
TL_API void tl_client_cancel(tl_client *c);
/** End a tl_client_wait or tl_client_run in progress from another thread or a signal handler. */
TL_API void tl_client_wake(tl_client *c);

/* --------------------------------------------------------------------------------- publish -- */

/* An event to publish. Everything is borrowed until the call returns. */
typedef struct tl_new_event {
    size_t size;
    const char *type;      /* required, "financial.invoice.created": 1..255 bytes, segments
                               separated by '.', none empty, no '*' */
    const char *data;      /* JSON text; NULL: null */
    size_t data_len;       /* bytes of data; 0: strlen(data) */
    const char *id;        /* uuid text; NULL: made by the server, ordered by time. With an id
                               the publish can be repeated: the topic's dedup window returns the
                               first result */
    const char *key;       /* ordering key; NULL: none */
    const char *source;    /* NULL: none */
    const char *tenant_id; /* NULL: system */
    const char *metadata;  /* JSON object text of at most 64 KiB; NULL: none */
    int64_t expires_at_us; /* 0: never */
    /* An event that falls due later is kept outside the log until then and moved into it by
     * `trunkline serve` (without a daemon by maintain()), with its id; see tl_cancel(). */
    int64_t run_at_us; /* 0: now, or after delay_us; up to 10 years ahead; past: now */
    uint64_t delay_us; /* 0: none; up to 10 years, by the server's clock; not with run_at_us */
    uint64_t ttl_us;   /* 0: none; sets expires_at by the server's clock, from when the event
                          falls due; not with expires_at_us */
} tl_new_event;
#define TL_NEW_EVENT(...) (&(tl_new_event){.size = sizeof(tl_new_event), __VA_ARGS__})

/* What a publish gives. Caller's memory, holds no pointers: this struct is fixed for ever. */
typedef struct tl_receipt {
    int64_t position; /* 0: it falls due later and is not in the log yet */
    char id[37];
    bool deduplicated; /* true: this id was published before; position is the first one's */
} tl_receipt;

/**
 * Publish one event in a transaction of its own; durable when it returns TL_OK.
 *
 * @param topic  NULL: "bus".
 * @param ret    may be NULL.
 * @return TL_OK; TL_E_INVALID; TL_E_LIMIT (larger than the topic's max_event_bytes);
 *         TL_E_NOTFOUND (topic); TL_E_DENIED; TL_E_CONFLICT (same id, other content);
 *         TL_E_CONNECTION: see tl_error_outcome_unknown().
 * Blocks: up to the client's timeout_us. A dead connection is replaced before the call is sent,
 * never after.
 */
TL_API TL_MUSTCHECK tl_status tl_publish(tl_client *c, const char *topic, const tl_new_event *event,
                                         tl_receipt *ret);
/**
 * Publish n events, all or none, positions in input order, in one transaction.
 * @param events  array of n; n == 0 is TL_E_INVALID.
 * @param ret     array of n, or NULL.
 * @return as tl_publish; tl_error_index() names the element to blame.
 */
TL_API TL_MUSTCHECK tl_status tl_publish_batch(tl_client *c, const char *topic,
                                               const tl_new_event *events, size_t n,
                                               tl_receipt *ret);
/**
 * Publish inside the caller's own libpq transaction (or autocommit when none is open). Never
 * begins, commits or rolls back. In an aborted transaction: TL_E_INVALID.
 * @param schema     NULL: "trunkline".
 * @param ret_error  may be NULL; else set on failure, free with tl_error_free().
 */
TL_API TL_MUSTCHECK tl_status tl_publish_in(struct pg_conn *conn, const char *schema,
                                            const char *topic, const tl_new_event *event,
                                            tl_receipt *ret, tl_error **ret_error);

/* What became of one event, for each subscription that wants it, by priority. */
typedef struct tl_outcomes tl_outcomes;
TL_API size_t tl_outcomes_count(const tl_outcomes *o); /* 0 for NULL; below: i < count */
TL_API const char *tl_outcomes_subscription(const tl_outcomes *o, size_t i);
TL_API bool tl_outcomes_is_sync(const tl_outcomes *o, size_t i);   /* its mode */
TL_API bool tl_outcomes_is_active(const tl_outcomes *o, size_t i); /* false: paused */
/** "pending", "processing", "retrying", "completed", "failed" (dead letter), "expired", "skipped". */
TL_API const char *tl_outcomes_state(const tl_outcomes *o, size_t i);
/** false while something is left to do: pending, processing, retrying. */
TL_API bool tl_outcomes_has_ended(const tl_outcomes *o, size_t i);
/** Attempts begun; 0 where none or nothing was kept. */
TL_API uint32_t tl_outcomes_attempts(const tl_outcomes *o, size_t i);
TL_API const char *tl_outcomes_error(const tl_outcomes *o, size_t i); /* the last; NULL: none */
TL_API tl_outcomes *tl_outcomes_free(tl_outcomes *o);

/** What became of an event. Needs the rights of a consumer. TL_E_NOTFOUND: no such event. */
TL_API TL_MUSTCHECK tl_status tl_event_outcomes(tl_client *c, const char *topic, int64_t position,
                                                tl_outcomes **ret);
/**
 * Publish one event and wait until every subscription of mode sync that wants it has handled it or
 * given it up. Paused ones are not waited for. With the id of an event that was published before, wait for
 * that one. Needs the rights of a publisher and of a consumer; without the latter nothing is stored.
 *
 * @param timeout_us    0: the client's timeout_us; UINT64_MAX: no limit.
 * @param ret           may be NULL. Set as soon as the event is stored, whatever is returned; position 0:
 *                      it is not stored.
 * @param ret_outcomes  may be NULL. Also set with TL_E_TIMEOUT and TL_E_REJECTED, else NULL on
 *                      failure; free with tl_outcomes_free. Sync subscriptions only.
 * @return TL_OK: all have handled it. TL_E_TIMEOUT: tl_error_detail() has {"pending":[names]}; the
 *         event stays stored and is still delivered. TL_E_REJECTED: a SQL function refused it and nothing
 *         is stored, or {"failed":[names]} gave it up (failed, expired) and it stays stored.
 *         TL_E_CANCELLED; errors of tl_publish.
 * Blocks: as tl_publish, then up to timeout_us.
 */
TL_API TL_MUSTCHECK tl_status tl_publish_wait(tl_client *c, const char *topic,
                                              const tl_new_event *event, uint64_t timeout_us,
                                              tl_receipt *ret, tl_outcomes **ret_outcomes);

/**
 * Cancel an event that is not due yet; its id is free again.
 * @param id  as the receipt has it.
 * @return TL_OK; TL_E_INVALID: it is in the log, its delivery began (or id is no uuid); TL_E_NOTFOUND:
 *         no such event, or its id has left the topic's dedup window.
 */
TL_API TL_MUSTCHECK tl_status tl_cancel(tl_client *c, const char *id);
/**
 * Change when an event that is not due yet falls due; an expiry given as ttl_us moves along.
 * @param run_at_us  a time that has passed means now; 0 is TL_E_INVALID.
 * @return as tl_cancel().
 */
TL_API TL_MUSTCHECK tl_status tl_reschedule(tl_client *c, const char *id, int64_t run_at_us);

/* ------------------------------------------------------------------------------------ read -- */

/* An event as it stands in the log. Borrowed from its batch or delivery. */
typedef struct tl_event tl_event;

TL_API int64_t tl_event_position(const tl_event *e);
TL_API const char *tl_event_id(const tl_event *e); /* uuid text, 36 characters */
TL_API const char *tl_event_type(const tl_event *e);
TL_API const char *tl_event_data(const tl_event *e, size_t *ret_len); /* JSON text; ret_len NULL */
TL_API const char *tl_event_metadata(const tl_event *e, size_t *ret_len); /* NULL: none */
TL_API const char *tl_event_source(const tl_event *e);                    /* NULL: none */
TL_API const char *tl_event_stream(const tl_event *e);                    /* NULL: plain event */
TL_API int64_t tl_event_version(const tl_event *e);                       /* 0: plain event */
TL_API const char *tl_event_key(const tl_event *e);                       /* NULL: none */
TL_API const char *tl_event_tenant_id(const tl_event *e);                 /* NULL: system */
TL_API int64_t tl_event_created_at_us(const tl_event *e);
TL_API int64_t tl_event_expires_at_us(const tl_event *e); /* 0: never */
/** The whole event as one line of JSON (no newline), the form that webhooks, exec and --json
 * use. The caller frees it with tl_free. NULL: no memory. */
TL_API char *tl_event_to_json(const tl_event *e, size_t *ret_len);

typedef struct tl_batch tl_batch; /* events read together; one free */
TL_API size_t tl_batch_count(const tl_batch *b);
TL_API const tl_event *tl_batch_event(const tl_batch *b, size_t i); /* i < count */
/** Position to read on after: everything up to it was looked at. */
TL_API int64_t tl_batch_upto(const tl_batch *b);
TL_API tl_batch *tl_batch_free(tl_batch *b);

typedef struct tl_read_options {
    size_t size;
    const char *topic;     /* NULL: "bus" */
    int64_t after;         /* position; 0: from the beginning */
    const char *pattern;   /* NULL: every type */
    const char *tenant_id; /* NULL: every tenant */
    uint32_t limit;        /* 0: 100; at most TL_MAX_CLAIM */
} tl_read_options;
#define TL_READ_OPTIONS(...) (&(tl_read_options){.size = sizeof(tl_read_options), __VA_ARGS__})

/**
 * Read events in order, never past the safe horizon, so reading on from tl_batch_upto() misses
 * nothing however late a transaction commits.
 * @return TL_OK with >= 1 event; TL_NOTHING (*ret is set, empty: its upto still moves on);
 *         errors as usual.
 */
TL_API TL_MUSTCHECK tl_status tl_read(tl_client *c, const tl_read_options *opts, tl_batch **ret);
/** The safe horizon of a topic: every event up to it is visible or will never be. */
TL_API TL_MUSTCHECK tl_status tl_horizon(tl_client *c, const char *topic, int64_t *ret);

/* -------------------------------------------------------------------------- topics, patterns -- */

typedef struct tl_topic_options {
    size_t size;
    const char *durability;   /* NULL: "logged"; or "unlogged" */
    const char *rotation;     /* NULL: "none"; "hour", "day", "month" */
    uint64_t retention_us;    /* 0: for ever */
    uint32_t max_event_bytes; /* 0: TL_MAX_EVENT_BYTES */
    bool streams;             /* it takes tl_append, and remembers ids that callers give for ever */
} tl_topic_options;
#define TL_TOPIC_OPTIONS(...) (&(tl_topic_options){.size = sizeof(tl_topic_options), __VA_ARGS__})
TL_API TL_MUSTCHECK tl_status tl_topic_create(tl_client *c, const char *topic,
                                              const tl_topic_options *opts);

/** Does an event type match a pattern? '*' is one segment, '**' at the end the rest (one or more
 * segments), '*' or '**' alone everything. A malformed pattern matches nothing. */
TL_API bool tl_pattern_matches(const char *pattern, const char *type);
/** TL_OK or TL_E_INVALID; why may be NULL, else receives static text on failure. */
TL_API tl_status tl_pattern_check(const char *pattern, const char **why);
/** TL_OK or TL_E_INVALID for an event type. */
TL_API tl_status tl_type_check(const char *type, const char **why);

/* --------------------------------------------------------------------------- subscriptions -- */

typedef enum tl_ordering {
    TL_ORDERING_KEY = 0,
    TL_ORDERING_NONE = 1,
    TL_ORDERING_TOTAL = 2
} tl_ordering;
typedef enum tl_start {
    TL_START_END = 0,
    TL_START_BEGINNING = 1,
    TL_START_POSITION = 2,
    TL_START_TIME = 3
} tl_start;

/* Pause before a further attempt. */
typedef enum tl_backoff {
    TL_BACKOFF_DEFAULT = 0,     /* schedule when there is one, else exponential; a web hook without
                                   any of these settings has a schedule of 27 hours */
    TL_BACKOFF_FIXED = 1,       /* retry_delay_us */
    TL_BACKOFF_EXPONENTIAL = 2, /* from retry_delay_us to retry_cap_us, with decorrelated jitter */
    TL_BACKOFF_SCHEDULE = 3     /* retry_schedule, with jitter of 20 % */
} tl_backoff;
/* What an event that failed does to later ones. */
typedef enum tl_on_failure {
    TL_ON_FAILURE_DEFAULT = 0,   /* block_key where there is an order, else retry */
    TL_ON_FAILURE_RETRY = 1,     /* later events overtake it */
    TL_ON_FAILURE_BLOCK_KEY = 2, /* later events of its key wait for it (ordering total: all) */
    TL_ON_FAILURE_STOP = 3       /* and when its attempts are used up the subscription pauses */
} tl_on_failure;
typedef enum tl_mode {
    TL_MODE_ASYNC = 0,
    TL_MODE_SYNC = 1 /* a sql: target runs in the publisher's transaction; others are awaited by
                        publish_and_wait() */
} tl_mode;

typedef struct tl_subscribe_options {
    size_t size;
    const char *topic;       /* NULL: "bus" */
    const char *tenant_id;   /* NULL: every tenant */
    const char *filter;      /* JSON object that data must contain (jsonb @>); NULL: none */
    const char *filter_path; /* jsonpath predicate on data (jsonb @@); NULL: none */
    const char *target;      /* NULL: pull; "https://…", "http://…", "sql:schema.function",
                                "exec:command line" */
    uint32_t priority;       /* 1..10, 0: 5 */
    tl_ordering ordering;
    tl_start start;          /* where a new subscription begins; not applied to an existing one */
    int64_t start_value;     /* position (events after it) or time in us, by start */
    uint32_t max_attempts;   /* in total, 1..1000; 0: 10, with a schedule its pauses + 1 */
    uint64_t retry_delay_us; /* first delay; 0: 1 s */
    uint64_t retry_cap_us;   /* longest delay; 0: 1 h */
    tl_backoff backoff;
    const uint64_t *retry_schedule; /* pauses in us after the first, second, ... failure; the last
                                       one repeats. NULL: none */
    size_t retry_schedule_count;    /* 1..100 with retry_schedule */
    tl_on_failure on_failure;
    uint32_t slots; /* shares of the keys that may be claimed side by side, 1..256, above 1 for
                       TL_ORDERING_KEY only; 0: 1. Of a new subscription: later it is changed by
                       tl_subscription_set_slots() */
    tl_mode mode;
    uint32_t max_in_flight;     /* events leased at a time, over all claimers; 0: no limit */
    double rate_limit;          /* events handed out a second, over all claimers; 0: no limit */
    uint64_t timeout_us;        /* limit of one attempt at a target; 0: that of the daemon */
    bool track_all;             /* keep a row of deliveries for every event */
    const char *target_options; /* JSON object, see the guide of the target; NULL: {} */
} tl_subscribe_options;
#define TL_SUBSCRIBE_OPTIONS(...)                                                                  \
    (&(tl_subscribe_options){.size = sizeof(tl_subscribe_options), __VA_ARGS__})

/** Create or change a durable subscription; the same call twice is one subscription. */
TL_API TL_MUSTCHECK tl_status tl_subscribe(tl_client *c, const char *name, const char *pattern,
                                           const tl_subscribe_options *opts);
/** Remove it with its cursors, leases and retries; its dead letters stay. TL_E_NOTFOUND;
 * TL_E_CONFLICT while it has events that are not delivered, in flight or waiting for a retry. */
TL_API TL_MUSTCHECK tl_status tl_unsubscribe(tl_client *c, const char *name);
/** The same, and what it has not settled is never delivered. */
TL_API TL_MUSTCHECK tl_status tl_unsubscribe_force(tl_client *c, const char *name);

/* Operating them. All of these: TL_E_NOTFOUND for an unknown name, TL_E_DENIED without the right
 * (grant_operate). */

/** Pause: claims that begin from now on give nothing, leases in flight end as usual.
 * @param reason  shown to people; NULL: none.
 * @return TL_OK; TL_NOTHING when it was paused already (reason and time stay). */
TL_API TL_MUSTCHECK tl_status tl_subscription_pause(tl_client *c, const char *name,
                                                    const char *reason);
/** Go on; a drain ends. One that an event stopped tries it again with all its attempts. The breaker
 * of a webhook is closed, paused or not.
 * @param skip  make a dead letter of that event instead; TL_E_CONFLICT when there is none.
 * @return TL_OK; TL_NOTHING when it was neither paused nor draining. */
TL_API TL_MUSTCHECK tl_status tl_subscription_resume(tl_client *c, const char *name, bool skip);

/* Caller's memory, holds no pointers: this struct is fixed for ever. */
typedef struct tl_reset_result {
    int64_t cursor;  /* events after it come next */
    int64_t leases;  /* what was dropped: leases in flight, now fenced, */
    int64_t retries; /* events that waited for another attempt or for their key, */
    int64_t replays; /* and slots of replays */
} tl_reset_result;
/** Set it to another place. start, start_value: as in tl_subscribe_options. ret may be NULL. */
TL_API TL_MUSTCHECK tl_status tl_subscription_reset(tl_client *c, const char *name, tl_start start,
                                                    int64_t start_value, tl_reset_result *ret);
/** Hand out what is in the log now and nothing later, then pause. *ret_upto (may be NULL): the last
 * position. TL_E_CONFLICT when it is paused. */
TL_API TL_MUSTCHECK tl_status tl_subscription_drain(tl_client *c, const char *name,
                                                    int64_t *ret_upto);
/** Change the number of slots, 1..256. *ret_in_force (may be NULL) is false when it takes effect
 * once all leases in flight have ended. TL_E_CONFLICT while a replay runs. */
TL_API TL_MUSTCHECK tl_status tl_subscription_set_slots(tl_client *c, const char *name,
                                                        uint32_t slots, bool *ret_in_force);

typedef struct tl_replay_options {
    size_t size;
    tl_start start; /* say where: zero is the end */
    int64_t start_value;
    tl_start end; /* up to and including a position, before a time; zero: the end */
    int64_t end_value;
    double rate;  /* events a second; 0: no limit */
    bool dry_run; /* only count */
} tl_replay_options;
#define TL_REPLAY_OPTIONS(...)                                                                     \
    (&(tl_replay_options){.size = sizeof(tl_replay_options), __VA_ARGS__})

/**
 * Hand events out once more, beside the live ones. What it has not got to yet comes anyway and is
 * not part of it.
 * @param ret_replay  may be NULL; for tl_replay_cancel(). Untouched by a dry run.
 * @param ret_events  may be NULL; events that match.
 * @return TL_OK; TL_NOTHING when no event matches (*ret_events is 0); TL_E_CONFLICT during a change
 *         of slots; TL_E_INVALID.
 */
TL_API TL_MUSTCHECK tl_status tl_replay(tl_client *c, const char *subscription,
                                        const tl_replay_options *opts, int64_t *ret_replay,
                                        int64_t *ret_events);
/** What is in flight of it goes on. TL_E_NOTFOUND when it has ended. */
TL_API TL_MUSTCHECK tl_status tl_replay_cancel(tl_client *c, int64_t replay);

/* ---------------------------------------------------------------------------- dead letters -- */

/* Which ones; of those that nobody has dealt with yet. Members that are zero do not count, but at
 * least one must be set; pattern "**" is all of them. */
typedef struct tl_dead_filter {
    size_t size;
    const int64_t *ids; /* TL_E_NOTFOUND when there is no such letter */
    size_t id_count;
    const char *subscription;
    const char *pattern; /* of the event type */
    const char *reason;  /* "max_attempts", "rejected", "crashed", "expired", "skipped" */
    const char *tenant_id;
    int64_t since_us; /* given up at this time or later */
    int64_t until_us; /* given up before this time */
    uint32_t limit;   /* oldest first; 0: 10000, at most 100000 */
} tl_dead_filter;
#define TL_DEAD_FILTER(...) (&(tl_dead_filter){.size = sizeof(tl_dead_filter), __VA_ARGS__})

/**
 * Hand dead letters out again, with all their attempts; nothing waits for them. Two calls at once
 * do each letter once.
 * @param rate     so many a second instead of all at once; 0: no limit.
 * @param dry_run  only count.
 * @param ret      may be NULL; how many.
 * @return TL_OK, also for none; TL_E_NOTFOUND; TL_E_CONFLICT: the subscription of an id is gone;
 *         TL_E_INVALID.
 */
TL_API TL_MUSTCHECK tl_status tl_dead_redrive(tl_client *c, const tl_dead_filter *filter,
                                              double rate, bool dry_run, int64_t *ret);
/** Give them up for good. note: why; NULL: none. */
TL_API TL_MUSTCHECK tl_status tl_dead_discard(tl_client *c, const tl_dead_filter *filter,
                                              const char *note, bool dry_run, int64_t *ret);
/** They were dealt with by other means. */
TL_API TL_MUSTCHECK tl_status tl_dead_resolve(tl_client *c, const tl_dead_filter *filter,
                                              const char *note, bool dry_run, int64_t *ret);

/* ------------------------------------------------------------- pull: claim, ack, extend -------- */

typedef struct tl_claim_options {
    size_t size;
    uint32_t max_events; /* 0: 100; at most TL_MAX_CLAIM */
    uint64_t lease_us;   /* 0: 30 s */
} tl_claim_options;
#define TL_CLAIM_OPTIONS(...) (&(tl_claim_options){.size = sizeof(tl_claim_options), __VA_ARGS__})

/** Claim the next events of a subscription under a lease. TL_OK with >= 1 event, or
 * TL_NOTHING and *ret is NULL. */
TL_API TL_MUSTCHECK tl_status tl_claim(tl_client *c, const char *subscription,
                                       const tl_claim_options *opts, tl_batch **ret);
TL_API const char *tl_batch_token(const tl_batch *b);          /* uuid text; NULL: not a claim */
TL_API uint32_t tl_batch_attempt(const tl_batch *b, size_t i); /* 1 for the first */
/** Settle events of the lease up to a position (0: all). TL_E_FENCED: the lease is lost. */
TL_API TL_MUSTCHECK tl_status tl_ack(tl_client *c, const char *token, int64_t upto,
                                     int64_t *ret_settled);
/** Report one event of the lease as failed and settle up to and including it. */
TL_API TL_MUSTCHECK tl_status tl_nack(tl_client *c, const char *token, int64_t position,
                                      const char *error, int64_t *ret_settled);
TL_API TL_MUSTCHECK tl_status tl_extend(tl_client *c, const char *token, uint64_t lease_us);
/** Hand the unsettled rest of a lease back at once; costs its events no attempt. */
TL_API TL_MUSTCHECK tl_status tl_release(tl_client *c, const char *token);

/**
 * Consumer inbox: *ret is true for the first call with this subscription and event id, false for all
 * later ones, for trunkline.inbox_window (30 days). This one commits at once, so what it guards happens
 * at most once. For exactly once call tl_tx_once(), or the SQL function once() in the transaction of
 * the effect; a call meanwhile then waits until that has ended.
 */
TL_API TL_MUSTCHECK tl_status tl_once(tl_client *c, const char *subscription, const char *event_id,
                                      bool *ret);

/* -------------------------------------------------------------------------------- wait, loop -- */

/**
 * Wait until events may be there: after it returns TL_OK read or claim again. Joins the doorbell
 * protocol: no publisher pays for it and nothing is missed between a read and the next wait. A retry
 * that falls due or a lease that expires does not end it: who claims sets a limit for those.
 * @param timeout_us  UINT64_MAX: no limit. TL_E_TIMEOUT when nothing happened.
 * @return TL_OK; TL_E_TIMEOUT; TL_E_CANCELLED (tl_client_wake); TL_E_CONNECTION only when
 *         reconnect_attempts is exhausted.
 */
TL_API TL_MUSTCHECK tl_status tl_client_wait(tl_client *c, uint64_t timeout_us);

/* --------------------------------------------------------------------------- router, worker -- */

typedef struct tl_router tl_router;
typedef struct tl_worker tl_worker;
typedef struct tl_delivery tl_delivery; /* one event on its way to one handler */
typedef struct tl_tx tl_tx;             /* the transaction of a transactional handler */

/* What a handler says of an event. */
typedef enum tl_verdict {
    TL_DONE = 0,    /* handled */
    TL_RETRY = 1,   /* failed: again later, until max_attempts */
    TL_SKIP = 2,    /* not for me: settled and counted as skipped */
    TL_FAIL = 3,    /* failed for good: dead letter now */
    TL_PENDING = 4, /* not finished: tl_delivery_complete() will follow */
} tl_verdict;

/**
 * A handler. Runs in the thread that runs the worker. The delivery and its event are borrowed
 * until it returns, or until tl_delivery_complete() when it returned TL_PENDING, and at the longest
 * until tl_worker_free(). Leases are renewed between handlers: one that works longer than a lease
 * returns TL_PENDING and goes on elsewhere, or others take its events over.
 */
typedef tl_verdict (*tl_handler_fn)(tl_delivery *d, void *userdata);

TL_API const tl_event *tl_delivery_event(const tl_delivery *d);
TL_API const char *tl_delivery_subscription(const tl_delivery *d);
TL_API const char *tl_delivery_topic(const tl_delivery *d);
TL_API uint32_t tl_delivery_attempt(const tl_delivery *d); /* 1 for the first */
/** Same on every retry and takeover: "<event id>.<subscription id>". */
TL_API const char *tl_delivery_id(const tl_delivery *d);
/** Text kept with a TL_RETRY or TL_FAIL; copied, cut at 2000 bytes. */
TL_API void tl_delivery_set_error(tl_delivery *d, const char *message);
/** Earliest next attempt, for TL_RETRY; 0: the subscription's policy. */
TL_API void tl_delivery_set_retry_after(tl_delivery *d, uint64_t delay_us);
/** What the other side asked for (Retry-After), for TL_RETRY; 0: nothing. The subscription's policy
 * bounds it: not sooner than its own pause, not later than twice that. */
TL_API void tl_delivery_set_retry_wish(tl_delivery *d, uint64_t delay_us);
/** Never sooner than this, whatever the policy says, for TL_RETRY; 0: no such bound. */
TL_API void tl_delivery_set_retry_floor(tl_delivery *d, uint64_t delay_us);
/** Finish a delivery whose handler returned TL_PENDING; on the worker's thread. */
TL_API void tl_delivery_complete(tl_delivery *d, tl_verdict verdict);
/** The handler's transaction, NULL unless its route is transactional. */
TL_API tl_tx *tl_delivery_tx(tl_delivery *d);
/** The client the worker was made with, for publishing from handlers. */
TL_API tl_client *tl_delivery_client(tl_delivery *d);

/**
 * Run one statement in the handler's transaction. Text parameters ($1…), text result; the caller
 * frees *ret_result with libpq's PQclear (NULL: result not wanted). Statements that would end the
 * transaction (commit, rollback, begin, end, abort, start, prepare transaction) and COPY are
 * refused with TL_E_INVALID and the transaction stays usable; savepoints are fine. After any other
 * failure the transaction is aborted, and TL_DONE counts as TL_RETRY.
 * Blocks: up to the client's timeout_us.
 */
TL_API TL_MUSTCHECK tl_status tl_tx_exec(tl_tx *tx, const char *sql, int n,
                                         const char *const *values, struct pg_result **ret_result);
/** Publish in the handler's transaction. */
TL_API TL_MUSTCHECK tl_status tl_tx_publish(tl_tx *tx, const char *topic, const tl_new_event *event,
                                            tl_receipt *ret);
/** tl_once() in the handler's transaction: remembered when it commits. */
TL_API TL_MUSTCHECK tl_status tl_tx_once(tl_tx *tx, const char *subscription, const char *event_id,
                                         bool *ret);
TL_API const tl_error *tl_tx_error(const tl_tx *tx);
/** The raw connection: the explicit escape. Do not end the transaction on it. */
TL_API struct pg_conn *tl_tx_unsafe(tl_tx *tx);

typedef struct tl_route_options {
    size_t size;
    const char *name;   /* subscription is "<module>/<name>"; NULL: the pattern */
    bool transactional; /* handler effects by tl_tx and the ack commit together: exactly once.
                           TL_DONE commits, every other verdict rolls back */
    tl_subscribe_options subscribe; /* leave .size zero for defaults; .target must be NULL */
} tl_route_options;
#define TL_ROUTE_OPTIONS(...) (&(tl_route_options){.size = sizeof(tl_route_options), __VA_ARGS__})

/** @param prefix  joined by '.' in front of every pattern; NULL or "": none. */
TL_API TL_MUSTCHECK tl_status tl_router_new(const char *prefix, tl_router **ret);
TL_API tl_router *tl_router_free(tl_router *r);
/** Add a handler. A name twice, also by include: TL_E_INVALID, since one name is one subscription
 * and that has one pattern. */
TL_API TL_MUSTCHECK tl_status tl_router_on(tl_router *r, const char *pattern, tl_handler_fn fn,
                                           void *userdata, const tl_route_options *opts);
/** Copy another router's routes into r under a further prefix (NULL: none). */
TL_API TL_MUSTCHECK tl_status tl_router_include(tl_router *r, const tl_router *other,
                                                const char *prefix);

typedef struct tl_worker_options {
    size_t size;
    uint32_t concurrency; /* deliveries in flight (handlers that return TL_PENDING), 1..1000;
                                   0: 5 */
    uint32_t
        claim_batch;   /* most events per claim, 1..TL_MAX_CLAIM; 0: 4000. Above 100 it is reached
                                   while full claims smaller than 4 MiB are worked off within 200 ms
                                   each, and left again when one takes longer than 1 s; one of more
                                   than 16 MiB halves the next; transactional handlers: 100 at most.
                                   A subscription holds one
                                   lease (ordering none: several; slots: up to one each) and claims
                                   another while at most half as many wait for a handler */
    uint64_t lease_us; /* 0: 30 s; renewed while handlers run */
    uint64_t poll_interval_us; /* fallback poll; 0: 1 s */
    uint64_t stop_timeout_us;  /* drain limit of tl_worker_stop; 0: 30 s */
    bool no_listen;            /* never LISTEN: poll only (transaction-pooling proxies) */
} tl_worker_options;
#define TL_WORKER_OPTIONS(...)                                                                     \
    (&(tl_worker_options){.size = sizeof(tl_worker_options), __VA_ARGS__})

/**
 * Make a worker. It opens connections of its own with c's settings and leaves c to the handlers.
 * Every route becomes the durable subscription "<module>/<name>". Subscriptions take turns, higher
 * priority first: between two turns of one that has work, at most 8 handlers start for each point
 * of priority of the others.
 * What subscribe() and set_slots() change of ordering, on_failure, priority or slots reaches a running
 * worker within about a second; leases that it holds go on as they began. While an event that failed
 * blocks its key, later events of the key are not begun but handed back: they wait behind it.
 * Subscriptions of one topic that are at the same place share one read of the log.
 * @param router  may be NULL when tl_worker_handle() gives the handlers.
 * @return TL_OK; subscribe errors; TL_E_INVALID. On failure tl_client_error(c) has the detail.
 */
TL_API TL_MUSTCHECK tl_status tl_worker_new(tl_client *c, const char *module,
                                            const tl_router *router, const tl_worker_options *opts,
                                            tl_worker **ret);
/** Not from a handler. What is in flight is dropped, its leases expire; for a clean end stop and run
 * (or process) it first. */
TL_API tl_worker *tl_worker_free(tl_worker *w);

typedef struct tl_handle_options {
    size_t size;
    bool transactional;   /* as in tl_route_options */
    uint32_t concurrency; /* deliveries of this subscription in flight, so that a slow one holds up
                             only itself; 0: the worker's limit */
} tl_handle_options;
#define TL_HANDLE_OPTIONS(...)                                                                     \
    (&(tl_handle_options){.size = sizeof(tl_handle_options), __VA_ARGS__})

/** Serve an existing subscription with a handler. May be called while the worker runs; on one
 * that is served already it changes handler and options for the deliveries to come. */
TL_API TL_MUSTCHECK tl_status tl_worker_handle(tl_worker *w, const char *subscription,
                                               tl_handler_fn fn, void *userdata,
                                               const tl_handle_options *opts);
/** Stop serving it: takes nothing more; deliveries in flight finish; the rest is released. */
TL_API TL_MUSTCHECK tl_status tl_worker_forget(tl_worker *w, const char *subscription);
/** Run until tl_worker_stop(), then drain. TL_OK after a clean drain, TL_E_TIMEOUT when handlers
 * were still running at stop_timeout_us (their leases are left to expire). */
TL_API TL_MUSTCHECK tl_status tl_worker_run(tl_worker *w);
/** Ask it to stop; from any thread, from a handler or a signal handler. */
TL_API void tl_worker_stop(tl_worker *w);
/**
 * End without a drain: settle what is finished and hand all other events back at once, those in flight
 * among them, so that others get them now and not when the leases expire. It costs them no attempt. Only
 * when whatever handled them has ended, or they may be handled twice at a time. Not from a handler.
 * Then free the worker.
 * Blocks: about 1 s at the most, on the client that the worker was made with.
 */
TL_API TL_MUSTCHECK tl_status tl_worker_abandon(tl_worker *w);
TL_API const tl_error *tl_worker_error(const tl_worker *w);

/* The same without tl_worker_run, for a loop of your own: wait until fd is readable or the
 * deadline has passed, then process; until process returns TL_NOTHING (stopped and drained). */
TL_API int tl_worker_fd(const tl_worker *w);
/** poll(2) events to wait for; always POLLIN. */
TL_API int tl_worker_events(const tl_worker *w);
/** CLOCK_MONOTONIC microseconds; UINT64_MAX: none; 0: process now. */
TL_API uint64_t tl_worker_deadline_us(const tl_worker *w);
TL_API TL_MUSTCHECK tl_status tl_worker_process(tl_worker *w);

typedef struct tl_worker_stats {
    uint64_t delivered; /* handler calls finished, any verdict */
    uint64_t done, retried, skipped, failed;
    uint64_t in_flight;
    uint64_t claims, polls, wakes, reconnects;
    bool is_sentinel;  /* this worker listens for the doorbell for everybody */
    bool is_listening; /* notifications arrive; false: polling only */
    uint64_t expired;  /* not delivered: expires_at had passed; they are dead letters now */
    uint64_t deferred; /* not begun here: an earlier one of the key failed; they wait behind it */
} tl_worker_stats;
TL_API void tl_worker_get_stats(const tl_worker *w, tl_worker_stats *ret);

/* -------------------------------------------------------------------------------- webhooks -- */

/*
 * Signatures of webhooks as the Standard Webhooks specification has them. A key is text:
 *   whsec_<base64>  a shared secret of 24 to 64 bytes: HMAC-SHA256, "v1"
 *   whsk_<base64>   an Ed25519 key, seed (32 bytes) or seed and public key (64): signs, "v1a"
 *   whpk_<base64>   its public key: verifies only
 * What is signed is "<webhook-id>.<webhook-timestamp>.<body>", the body byte for byte as it was sent.
 */
typedef enum tl_webhook_scheme { TL_WEBHOOK_V1 = 0, TL_WEBHOOK_V1A = 1 } tl_webhook_scheme;

/**
 * Make a key from strong random numbers.
 * @param ret_secret  whsec_ of 32 bytes, or whsk_; free with tl_free.
 * @param ret_public  whpk_ of a whsk_; free with tl_free. May be NULL with TL_WEBHOOK_V1, which
 *                    gives NULL.
 */
TL_API TL_MUSTCHECK tl_status tl_webhook_key_new(tl_webhook_scheme scheme, char **ret_secret,
                                                 char **ret_public);
/**
 * The value of webhook-signature: one signature for each secret, divided by spaces.
 * @param secrets  n keys, whsec_ or whsk_; several while one is replaced by another.
 * @param id       value of webhook-id, 1 to 255 bytes without white space.
 * @param ret_signature  free with tl_free.
 * @return TL_OK; TL_E_INVALID (malformed key or id); TL_E_NOMEM.
 */
TL_API TL_MUSTCHECK tl_status tl_webhook_sign(const char *const *secrets, size_t n, const char *id,
                                              int64_t timestamp_s, const void *body, size_t len,
                                              char **ret_signature);

typedef struct tl_webhook_verify_options {
    size_t size;
    uint64_t tolerance_us; /* how far the timestamp may be from now, either way; 0: 5 min */
    int64_t now_us;        /* 0: the clock */
    bool any_time;         /* do not look at the timestamp, for stored requests */
} tl_webhook_verify_options;
#define TL_WEBHOOK_VERIFY_OPTIONS(...)                                                             \
    (&(tl_webhook_verify_options){.size = sizeof(tl_webhook_verify_options), __VA_ARGS__})

/**
 * Is a request from who has the key? Good when one signature fits one key; the time taken does not
 * depend on how far a wrong one fits. Refuse what is not TL_OK, and keep webhook-id to see repeats.
 * @param keys       n keys of any kind.
 * @param id, timestamp, signature  values of webhook-id, webhook-timestamp, webhook-signature; NULL:
 *                   the header is missing.
 * @param ret_why    may be NULL; else static text on failure, NULL on success.
 * @return TL_OK; TL_E_DENIED (not genuine, or too old or new); TL_E_INVALID (malformed key);
 *         TL_E_NOMEM.
 */
TL_API TL_MUSTCHECK tl_status tl_webhook_verify(const char *const *keys, size_t n, const char *id,
                                                const char *timestamp, const char *signature,
                                                const void *body, size_t len,
                                                const tl_webhook_verify_options *opts,
                                                const char **ret_why);

/* --------------------------------------------------------------------------------- migrate -- */

typedef enum tl_migrate_state {
    TL_MIGRATE_MISSING, /* no schema */
    TL_MIGRATE_PENDING, /* older than this library */
    TL_MIGRATE_CURRENT,
    TL_MIGRATE_NEWER,    /* made by a newer library */
    TL_MIGRATE_TAMPERED, /* a recorded migration has another checksum than ours */
} tl_migrate_state;

typedef void (*tl_migrate_fn)(int number, const char *name, const char *state, void *userdata);

/** Bring the schema to this library's version; safe to run many at once. *ret_applied: number of
 * migrations applied by this call (functions are re-applied when their text changed). */
TL_API TL_MUSTCHECK tl_status tl_migrate_up(tl_client *c, int *ret_applied);
/** State, and one call of fn (may be NULL) for each migration: "applied", "pending", "tampered",
 * "unknown". */
TL_API TL_MUSTCHECK tl_status tl_migrate_status(tl_client *c, tl_migrate_fn fn, void *userdata,
                                                tl_migrate_state *ret);
/** Everything that a fresh installation would run, as one SQL script; free with tl_free. */
TL_API TL_MUSTCHECK tl_status tl_migrate_sql(const char *schema, char **ret_sql);
/** Compare recorded checksums and function texts with ours: TL_OK or TL_E_SCHEMA. */
TL_API TL_MUSTCHECK tl_status tl_migrate_verify(tl_client *c);

#ifdef __cplusplus
}
#endif

#include <trunkline/live.h>
#include <trunkline/publisher.h>
#include <trunkline/store.h>

#endif /* TRUNKLINE_H */
